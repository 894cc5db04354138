//! A group of the broker in memory: who owns what, who is told what, what is committed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::receiver::source::{Commit, Partition, SourceError};

/// What a member is to hear, besides records.
#[derive(Debug)]
pub(super) enum Told {
    Assigned(Vec<Partition>),
    Revoked(Vec<Partition>, bool),
    /// The answer to the member's commit of that number.
    Committed(u64, Result<(), SourceError>),
    Truncated(Partition),
    Error(SourceError),
}

#[derive(Default)]
pub(super) struct Member {
    topics: Vec<Arc<str>>,
    /// By the broker's word, until the member lets them go.
    pub(super) owned: BTreeSet<Partition>,
    revoking: BTreeSet<Partition>,
    target: BTreeSet<Partition>,
    pub(super) told: VecDeque<Told>,
}

#[derive(Default)]
pub(super) struct Group {
    pub(super) members: BTreeMap<u64, Member>,
    pub(super) committed: BTreeMap<Partition, Commit>,
}

impl Group {
    pub(super) fn join(&mut self, member: u64, topics: &[&str]) {
        let topics = topics.iter().map(|topic| Arc::from(*topic)).collect();
        self.members.insert(member, Member { topics, ..Member::default() });
    }

    pub(super) fn remove(&mut self, member: u64) {
        self.members.remove(&member);
    }

    pub(super) fn tell(&mut self, member: u64, told: Told) {
        if let Some(member) = self.members.get_mut(&member) {
            member.told.push_back(told);
        }
    }

    pub(super) fn topics(&self) -> BTreeSet<Arc<str>> {
        self.members.values().flat_map(|member| member.topics.iter().cloned()).collect()
    }

    /// Shares `all` among the members, in turn; what a member owns and shall not is asked back first.
    pub(super) fn rebalance(&mut self, all: Vec<Partition>, eager: bool) {
        let count = self.members.len().max(1);
        let mut changed = false;
        for (index, member) in self.members.values_mut().enumerate() {
            let mine = all.iter().enumerate().filter(|(at, _)| at % count == index).map(|(_, partition)| partition);
            let target: BTreeSet<_> = mine.cloned().collect();
            changed |= target != member.target;
            member.target = target;
        }
        for member in self.members.values_mut() {
            let goes = |partition: &&Partition| {
                !member.revoking.contains(*partition) && ((eager && changed) || !member.target.contains(*partition))
            };
            let gone: Vec<_> = member.owned.iter().filter(goes).cloned().collect();
            if !gone.is_empty() {
                member.revoking.extend(gone.iter().cloned());
                member.told.push_back(Told::Revoked(gone, false));
            }
        }
        self.give(eager);
    }

    /// Offers what nobody owns to whom it shall belong; when eager, only once everybody let go.
    fn give(&mut self, eager: bool) {
        if eager && self.members.values().any(|member| !member.revoking.is_empty()) {
            return;
        }
        let taken: BTreeSet<_> = self.members.values().flat_map(|member| member.owned.iter().cloned()).collect();
        for member in self.members.values_mut() {
            let new: Vec<_> = member.target.difference(&taken).cloned().collect();
            if !new.is_empty() {
                member.owned.extend(new.iter().cloned());
                member.told.push_back(Told::Assigned(new));
            }
        }
    }

    /// A member lets partitions go that it was asked for. What it lost may be its own again already.
    pub(super) fn let_go(&mut self, member: u64, partitions: &[Partition], eager: bool) {
        if let Some(member) = self.members.get_mut(&member) {
            for partition in partitions.iter().filter(|partition| member.revoking.remove(*partition)) {
                member.owned.remove(partition);
            }
        }
        self.give(eager);
    }

    /// Offers a member what it owns once more.
    pub(super) fn offer_again(&mut self, member: u64) {
        if let Some(member) = self.members.get_mut(&member) {
            member.told.push_back(Told::Assigned(member.owned.iter().cloned().collect()));
        }
    }

    /// Takes everything from a member at once.
    pub(super) fn fence(&mut self, member: u64) {
        let Some(member) = self.members.get_mut(&member) else { return };
        let lost: Vec<_> = std::mem::take(&mut member.owned).into_iter().collect();
        member.revoking.clear();
        member.target.clear();
        // What it was told before and has not heard yet is about a generation that is over.
        member.told.retain(|told| !matches!(told, Told::Assigned(_) | Told::Revoked(..)));
        member.told.push_back(Told::Revoked(lost, true));
    }
}
