//! What a cgroup has used, by its own files (Linux, Documentation/admin-guide/cgroup-v2.rst).
#![forbid(unsafe_code)]

use crate::child::{oom, proc};
use crate::sys::process::Usage;

fn number(text: &str) -> Option<u64> {
    text.trim_ascii().parse().ok()
}

/// The number behind this name, in a file of lines with one each.
pub(super) fn of_line(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| number(line.strip_prefix(name)?.strip_prefix(' ')?))
}

/// The sum of `NAME=N` over all devices.
pub(super) fn sum(text: &str, name: &str) -> u64 {
    let numbers = text.split_whitespace().filter_map(|word| number(word.strip_prefix(name)?.strip_prefix('=')?));
    numbers.fold(0, u64::saturating_add)
}

/// What all processes of the cgroup whose folder this is have used. What it does not say, since a controller is off or the kernel too old
/// (memory.peak: 5.19, pids.peak: 6.1), is as `known`.
pub(super) fn read(folder: &str, known: Usage) -> Usage {
    let file = |name: &str| proc::read_list(&format!("{folder}/{name}")).ok();
    let cpu = file("cpu.stat").and_then(|text| of_line(&text, "usage_usec"));
    let io_bytes = file("io.stat").map(|text| (sum(&text, "rbytes"), sum(&text, "wbytes")));
    Usage {
        cpu_usec: cpu.unwrap_or(known.cpu_usec),
        peak_memory: file("memory.peak").as_deref().and_then(number).unwrap_or(known.peak_memory),
        peak_tasks: file("pids.peak").as_deref().and_then(number).or(known.peak_tasks),
        io_bytes: io_bytes.or(known.io_bytes),
    }
}

/// How many processes in it, or below it, the kernel has killed since memory was used up.
pub(super) fn oom_kills(folder: &str) -> Option<u64> {
    oom::count(&proc::read_list(&format!("{folder}/memory.events")).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_in_their_lines() {
        assert_eq!(of_line("low 0\noom 7\noom_kill 3\noom_group_kill 1\n", "oom_kill"), Some(3));
        assert_eq!(of_line("oom_kills 3\noom_kill\n", "oom_kill"), None);
        let io = "8:0 rbytes=4096 wbytes=1 rios=1 wios=1\n8:16 rbytes=10 wbytes=2 dbytes=9\n";
        assert_eq!((sum(io, "rbytes"), sum(io, "wbytes"), sum("", "rbytes")), (4106, 3, 0));
        assert_eq!(sum("8:0 rbytes=18446744073709551615\n8:16 rbytes=1\n", "rbytes"), u64::MAX, "not less than before");
    }
}
