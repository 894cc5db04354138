//! `seawall completions`: what a shell needs to complete the command line.

use std::process::ExitCode;

use clap::{Args, Command};
use clap_complete::Shell;

use crate::exit;
use crate::out::Out;

/// Write out a shell's completions for this command
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Which shell
    shell: Shell,
}

const EXAMPLES: &str = "Examples:
  seawall completions bash > /etc/bash_completion.d/seawall
  seawall completions zsh > ~/.zfunc/_seawall
  seawall completions fish > ~/.config/fish/completions/seawall.fish

Exit codes: 0 they were written out, 1 usage or I/O.";

pub fn run(arguments: &Arguments, mut command: Command, out: &mut Out) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut command, "seawall", &mut script);
    out.raw(String::from_utf8_lossy(&script).trim_end())?;
    Ok(exit::CLEAN)
}
