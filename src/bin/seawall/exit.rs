//! What the exit code says.

use std::process::ExitCode;

use seawall::receiver::ReceiveError;
use seawall::{Error, ErrorKind};

use crate::bench::Mismatch;

/// All is well.
pub const CLEAN: ExitCode = ExitCode::SUCCESS;
/// Wrong arguments, or the system or a broker refused.
pub const USAGE: ExitCode = ExitCode::FAILURE;

/// Damage was found.
pub fn damage() -> ExitCode {
    ExitCode::from(2)
}

/// Something was done, and something is lost, or it cannot be told whether.
pub fn loss() -> ExitCode {
    ExitCode::from(3)
}

/// A newer version wrote it.
pub fn too_new() -> ExitCode {
    ExitCode::from(5)
}

/// The code for an error: by what the log said.
pub fn code(error: &anyhow::Error) -> ExitCode {
    match of_log(error).map(Error::kind) {
        Some(ErrorKind::Damage(_)) => damage(),
        Some(ErrorKind::Locked) => ExitCode::from(4),
        Some(ErrorKind::TooNew) => too_new(),
        _ if error.chain().any(is_newer_entry) => too_new(),
        _ if error.is::<Mismatch>() => damage(),
        _ => USAGE,
    }
}

/// Whether the log is sound, and a newer receiver wrote into it.
fn is_newer_entry(cause: &(dyn std::error::Error + 'static)) -> bool {
    matches!(cause.downcast_ref(), Some(ReceiveError::Decode { error, .. }) if error.kind.is_newer())
}

/// What the log said, wherever it stands in the chain.
pub fn of_log(error: &anyhow::Error) -> Option<&Error> {
    error.chain().find_map(|cause| match cause.downcast_ref::<ReceiveError>() {
        Some(ReceiveError::Log(error)) => Some(error),
        _ => cause.downcast_ref::<Error>(),
    })
}
