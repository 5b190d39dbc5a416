//! Metrics as their users' own programs read them: promtool and Prometheus, from Debian's package.

use std::env;
use std::path::Path;
use std::process::Command;

use crate::common::*;

/// Whether this program is here. A lane without it fails.
pub fn is_installed(program: &str) -> bool {
    let found = env::split_paths(&env::var_os("PATH").expect("PATH")).any(|folder| folder.join(program).is_file());
    if !found {
        assert!(env::var("CI").as_deref() != Ok("true"), "{program} is not installed: tests/run.sh installs it");
        skip("metrics", &format!("{program} is not installed"));
    }
    found
}

/// Runs promtool, which must be content.
#[track_caller]
fn promtool(args: &[&str]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/monitoring");
    let output = Command::new("promtool").args(args).current_dir(folder).output().expect("promtool");
    assert!(output.status.success(), "promtool {args:?}: {output:#?}");
}

#[test]
fn alerts_fire_when_they_have_to() {
    if is_installed("promtool") {
        promtool(&["check", "rules", "alerts.yml"]);
        promtool(&["check", "config", "prometheus.yml"]);
        promtool(&["test", "rules", "alerts_test.yml"]);
    }
}
