//! What one connection may use: the files of its cgroup that are written before its command is in it (Linux,
//! Documentation/admin-guide/cgroup-v2.rst).
#![forbid(unsafe_code)]

/// A part of cpu.max.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuMax {
    /// Microseconds of processor time in each period, of all processors together.
    pub quota_usec: u64,
    /// The period, in microseconds: from 1,000 to 1,000,000.
    pub period_usec: u64,
}

/// Weights of cpu.weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuWeight {
    /// From 1 to 10,000; 100 is what others have.
    Weight(u32),
    /// Only what nobody else wants (cpu.idle, Linux 5.15).
    Idle,
}

/// The limits of one connection; `None` is off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes, beyond which the whole connection is killed.
    pub memory_max: Option<u64>,
    /// Bytes, beyond which its processes are slowed down.
    pub memory_high: Option<u64>,
    /// Processes and threads.
    pub tasks_max: Option<u64>,
    /// Its part of the processors, in relation to others.
    pub cpu_weight: Option<CpuWeight>,
    /// Its time on processors.
    pub cpu_max: Option<CpuMax>,
    /// Its part of block devices, from 1 to 10,000, in relation to others.
    pub io_weight: Option<u32>,
}

/// One limit: the option that sets it, the controller that it needs, and what is written where. Where there are several files, the first
/// that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// With its dashes.
    pub option: &'static str,
    /// As cgroup.controllers has it.
    pub controller: &'static str,
    /// Names in the cgroup's folder.
    pub files: &'static [&'static str],
    /// As the kernel takes it.
    pub value: String,
}

impl Limits {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        *self == Limits::default()
    }

    /// All that is to be written, in this order.
    pub fn settings(&self) -> Vec<Setting> {
        let set = |option, controller, files, value: Option<String>| {
            value.map(|value| Setting { option, controller, files, value })
        };
        let bytes = |bytes: Option<u64>| bytes.map(|bytes| bytes.to_string());
        let weight = self.cpu_weight.map(|weight| match weight {
            CpuWeight::Weight(weight) => (&["cpu.weight"][..], weight.to_string()),
            CpuWeight::Idle => (&["cpu.idle"][..], "1".to_owned()),
        });
        let (weight_files, weight) = weight.unzip();
        let cpu_max = self.cpu_max.map(|CpuMax { quota_usec, period_usec }| format!("{quota_usec} {period_usec}"));
        // So that what is left of a connection does not go on without what was killed.
        let as_one = (self.memory_max.or(self.memory_high)).map(|_| "1".to_owned());
        [
            set("--memory-max", "memory", &["memory.max"], bytes(self.memory_max)),
            set("--memory-high", "memory", &["memory.high"], bytes(self.memory_high)),
            set("--memory-max", "memory", &["memory.oom.group"], as_one),
            set("--tasks-max", "pids", &["pids.max"], bytes(self.tasks_max)),
            set("--cpu-weight", "cpu", weight_files.unwrap_or_default(), weight),
            set("--cpu-max", "cpu", &["cpu.max"], cpu_max),
            set("--io-weight", "io", &["io.weight", "io.bfq.weight"], self.io_weight.map(|weight| weight.to_string())),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_has_its_file() {
        let all = Limits {
            memory_max: Some(1 << 20),
            memory_high: Some(1 << 19),
            tasks_max: Some(7),
            cpu_weight: Some(CpuWeight::Weight(20)),
            cpu_max: Some(CpuMax { quota_usec: 50_000, period_usec: 100_000 }),
            io_weight: Some(30),
        };
        let written = |limits: Limits| -> Vec<String> {
            limits.settings().iter().map(|set| format!("{}={}", set.files[0], set.value)).collect()
        };
        let memory = ["memory.max=1048576", "memory.high=524288", "memory.oom.group=1"];
        let others = ["pids.max=7", "cpu.weight=20", "cpu.max=50000 100000", "io.weight=30"];
        assert_eq!(written(all), [&memory[..], &others].concat());
        assert_eq!(written(Limits { cpu_weight: Some(CpuWeight::Idle), ..Limits::default() }), ["cpu.idle=1"]);
        assert!(Limits::default().is_empty() && written(Limits::default()).is_empty());
    }
}
