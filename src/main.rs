//! The program: words in, exit code out.
#![forbid(unsafe_code)]

use sockcap::cli::{self, Task};
use sockcap::daemon::{self, Failure};
use sockcap::observe::failure;
use sockcap::observe::stream::collector;
use sockcap::sys::{errno_words, memory, plain, process};
use std::io::Write;

fn main() {
    // First of all: what is blocked waits for the loop that reads it. To PID 1 of a container the kernel sends nothing that has the default
    // action and is not blocked, so that a stop would be lost.
    let blocked = process::blocked_signals().thread_set_mask();
    process::default_signal_actions();
    process::close_to_others();
    process::close_all_on_exec();
    memory::share_one_heap();
    let result = match blocked {
        Err(error) => Err(Failure::System(format!("cannot block signals: {}", errno_words(error as i32)))),
        Ok(()) => match collector::target(std::env::args_os()) {
            Some(target) => collector::run(target).map_err(Failure::System),
            None => run(),
        },
    };
    let (line, code) = match result {
        Ok(()) => process::exit_now(0),
        Err(Failure::Usage(line)) => (line, 2),
        Err(Failure::System(line)) => (line, 1),
    };
    failure::tell(line);
    process::exit_now(code)
}

fn run() -> Result<(), Failure> {
    let print = |text: &str| {
        let written = std::io::stdout().write_all(text.as_bytes());
        written.map_err(|error| Failure::System(format!("cannot write to stdout: {}", plain(&error))))
    };
    let stack = memory::raise_stack_limit().map_err(Failure::System)?;
    let task = cli::parse(std::env::args_os());
    drop(stack);
    match task.map_err(Failure::Usage)? {
        Task::Print(text) => print(&format!("{}\n", text.trim_end())),
        Task::Check(settings) => print(&daemon::check(&settings)?),
        Task::Run(settings) => daemon::start(*settings),
    }
}
