//! What the exit code says.

use std::process::ExitCode;

use seawall::receiver::ReceiveError;
use seawall::{Error, ErrorKind};

/// All is well.
pub const CLEAN: ExitCode = ExitCode::SUCCESS;
/// Wrong arguments, or the system or a broker refused.
pub const USAGE: ExitCode = ExitCode::FAILURE;

/// Damage was found.
pub fn damage() -> ExitCode {
    ExitCode::from(2)
}

/// Something was done, and what was damaged is lost by it.
pub fn loss() -> ExitCode {
    ExitCode::from(3)
}

/// The code for an error: by what the log said, wherever it stands in the chain.
pub fn code(error: &anyhow::Error) -> ExitCode {
    match error.chain().find_map(kind) {
        Some(ErrorKind::Damage(_)) => damage(),
        Some(ErrorKind::Locked) => ExitCode::from(4),
        Some(ErrorKind::TooNew) => ExitCode::from(5),
        _ => USAGE,
    }
}

fn kind<'a>(cause: &'a (dyn std::error::Error + 'static)) -> Option<&'a ErrorKind> {
    match cause.downcast_ref::<ReceiveError>() {
        Some(ReceiveError::Log(error)) => Some(error.kind()),
        _ => cause.downcast_ref::<Error>().map(Error::kind),
    }
}
