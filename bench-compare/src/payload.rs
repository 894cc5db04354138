//! The records: whose they are, and bytes that do not compress. The same for every engine.

/// Bytes of the head: the thread, and its own count.
pub const HEAD: usize = 16;

/// Bytes by xorshift, the same each time.
pub fn noise() -> impl Iterator<Item = u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    })
}

/// A record of `size` bytes, of a thread and its first.
pub fn new(size: usize, thread: usize) -> Vec<u8> {
    let mut payload: Vec<u8> = noise().take(size).collect();
    payload[..8].copy_from_slice(&(thread as u64).to_le_bytes());
    set_count(&mut payload, 0);
    payload
}

/// Makes it another one of the same thread.
pub fn set_count(payload: &mut [u8], count: u64) {
    payload[8..HEAD].copy_from_slice(&count.to_le_bytes());
}

/// The thread and the count.
pub fn place(payload: &[u8]) -> (u64, u64) {
    let number = |at: usize| payload[at..at + 8].iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    (number(0), number(8))
}
