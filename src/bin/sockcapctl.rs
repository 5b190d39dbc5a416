//! The program: words in, exit code out.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    sockcap::ctl::run(std::env::args_os()).into()
}
