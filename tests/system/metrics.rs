//! The units that bring metrics to other people's programs: a file for node_exporter, and systemd's own report.

use super::client::Client;
use super::rig::{Rig, SERVICE, until};
use serde_json::{Value, json};
use std::net::Ipv4Addr;

const FOLDER: &str = "/var/lib/prometheus/node-exporter";

/// Two services that belong to different users, one of them to a dynamic one, and a client that has been served by each.
fn serve(rig: &Rig) {
    rig.ok("systemctl start daytime-capped.socket");
    let daytime = rig.ok("nc -N 127.0.0.1 13 </dev/null");
    assert!(!daytime.is_empty());
    rig.ok("rsync rsync://127.0.0.1/");
}

/// As docs/watching.md says, with a service that runs already: the socket comes with a restart, which cuts nobody.
pub fn a_service_that_runs_gets_a_listener_for_metrics(rig: &Rig) {
    let page = include_str!("../../docs/watching.md");
    let part = page.split_once("**Prometheus scrapes**").expect("its paragraph").1;
    let mut blocks = part.split("```ini\n").skip(1).map(|rest| {
        let (block, _) = rest.split_once("```").expect("an end");
        block.replace("rsync-capped-metrics", "probe-metrics") // a unit of the tests has a name that says so
    });
    let client = Client::served(rig);
    rig.unit("probe-metrics.socket", &blocks.next().expect("the socket"));
    rig.edit_unit(SERVICE, &blocks.next().expect("a drop-in"));
    rig.ok(&format!("systemctl restart {SERVICE}"));
    let mut scrape = Client::to(rig, Ipv4Addr::LOCALHOST, 9873);
    scrape.send("GET /metrics HTTP/1.0\r\n\r\n");
    let text = scrape.rest();
    assert!(
        text.contains("\nsockcap_connections_active{unit=\"rsync-capped.service\",listener=\"rsync\"} 1\n"),
        "{text}"
    );
    client.finish_with_a_list();
}

pub fn a_timer_writes_a_file_for_node_exporter(rig: &Rig) {
    rig.ok(&format!("rm -rf {FOLDER}; systemctl stop sockcap-metrics.timer"));
    serve(rig);
    // Without the exporter there is no folder, and what to do about it is said.
    assert!(!rig.sh("systemctl start sockcap-metrics.service").status.success());
    rig.until_said("-t sockcapctl -p warning", "create the directory /var/lib/prometheus/node-exporter first");

    rig.ok(&format!("mkdir -p {FOLDER} && chown nobody {FOLDER} && chmod 755 {FOLDER}"));
    rig.ok("systemctl start sockcap-metrics.timer");
    let file = format!("{FOLDER}/sockcap.prom");
    let page = until("the file", || {
        rig.sh(&format!("test -e {file}")).status.success().then(|| rig.ok(&format!("cat {file}")))
    });
    for series in [
        format!("sockcap_connections_accepted_total{{unit=\"{SERVICE}\",listener=\"rsync\"}} 1"),
        "sockcap_connections_accepted_total{unit=\"daytime-capped.service\",listener=\"daytime\"} 1".to_owned(),
        format!("sockcap_connections_limit{{unit=\"{SERVICE}\",limit=\"total\",listener=\"\"}} 10"),
    ] {
        assert!(page.lines().any(|line| line == series), "{series} is not in {page}");
    }
    assert_eq!(rig.ok(&format!("stat -c %a {file}; ls -A {FOLDER}")), "644\nsockcap.prom");
    rig.ok(&format!("systemctl stop sockcap-metrics.timer; rm -rf {FOLDER}"));
}

/// systemd-report finds the socket by itself, and takes every metric.
pub fn systemd_report_reads_all_units(rig: &Rig) {
    serve(rig);
    rig.ok("systemctl start sockcap-report.socket");
    let _active = Client::served(rig);
    // Its complaints, of metrics that are not valid, are on stderr.
    let report = |verb: &str| {
        let text = rig.ok(&format!("/usr/lib/systemd/systemd-report {verb} --json=short io.github.sockcap 2>/tmp/said; cat /tmp/said >&2; ! test -s /tmp/said"));
        let records = text.lines().map(|line| line.trim_matches('\x1e')).filter(|line| !line.is_empty());
        records
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
            .collect::<Vec<Value>>()
    };
    let expected = [
        ("ConnectionsAccepted", SERVICE, json!({ "listener": "rsync" }), 2),
        ("ConnectionsActive", SERVICE, json!({ "listener": "rsync" }), 1),
        ("ConnectionsAccepted", "daytime-capped.service", json!({ "listener": "daytime" }), 1),
        ("WaitLimitUSec", SERVICE, Value::Null, 60_000_000),
    ];
    let is_told = |metrics: &[Value], (name, unit, fields, value): &(&str, &str, Value, u64)| {
        let is_it =
            |metric: &&Value| metric["name"] == format!("io.github.sockcap.{name}") && metric["object"] == *unit;
        metrics.iter().filter(is_it).any(|metric| metric["fields"] == *fields && metric["value"] == *value)
    };
    let mut metrics = Vec::new();
    // The command of the client before may not have ended.
    for one in &expected {
        until(&format!("{one:?} in a report"), || {
            metrics = report("metrics");
            is_told(&metrics, one).then_some(())
        });
    }
    let families = report("describe");
    for metric in &metrics {
        assert!(families.iter().any(|family| family["name"] == metric["name"]), "not described: {metric}");
    }
}
