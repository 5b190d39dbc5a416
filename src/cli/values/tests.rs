//! Values of options, and what is none.
#![forbid(unsafe_code)]

use super::*;
use crate::policy::limit::rule::Penalties;

#[test]
fn durations_as_in_unit_files() {
    assert_eq!(duration("30"), Ok(Duration::from_secs(30)));
    assert_eq!(duration("0"), Ok(Duration::ZERO));
    assert_eq!(duration("5min 20s"), Ok(Duration::from_secs(320)));
    for bad in ["", "-1", "5x", "99999999999999999999", "20y"] {
        assert!(duration(bad).is_err(), "{bad}");
    }
}

#[test]
fn whole_numbers_at_their_borders() {
    assert_eq!([share("1"), share("7")].map(|share| share.unwrap().get()), [1, 7]);
    assert!(share("0").is_err() && share("4294967296").is_err());
    assert_eq!([backlog("0"), backlog("2147483647")], [Ok(0), Ok(i32::MAX)]);
    assert!(backlog("-1").is_err() && backlog("2147483648").is_err());
    assert_eq!(per_listener("ssh").unwrap_err(), "expected N or NAME=N");
}

#[test]
fn rates() {
    let of =
        |count, seconds, burst| Ok(RateLimit(Some(Rate::new(count, Duration::from_secs(seconds), burst).unwrap())));
    assert_eq!(rate("0"), Ok(RateLimit(None)));
    assert_eq!(rate("10/1min"), of(10, 60, None));
    assert_eq!(rate("10/min"), of(10, 60, None));
    assert_eq!(rate("10/60:3"), of(10, 60, Some(3)));
    assert_eq!(rate("1/1h 30min:2"), of(1, 5400, Some(2)));
    for bad in [
        "",
        "10",
        "/",
        "10/",
        "/1min",
        "10/1min:",
        "10/1min:x",
        "-1/1s",
        "0/1s",
        "1/0",
        "1/2days",
        "1/1s:0",
        "2/1ns",
        "x/1s",
    ] {
        assert!(rate(bad).is_err(), "{bad}");
    }
}

#[test]
fn penalties_and_their_preset() {
    let said = |text: &str| penalties(text).map(|Penalized(of)| Penalties { of, ..Penalties::default() }.to_string());
    let is = |text: &str| Ok(text.to_owned());
    assert_eq!(said("0"), is(""));
    assert_eq!(said("sshd"), is(&SSHD.replace("90s", "1m30s")));
    assert_eq!(said("0=1min"), is("0=1m"));
    assert_eq!(said("signal=90s:always,time-limit=1min,oom=5"), is("signal=1m30s:always,time-limit=1m,oom=5s"));
    assert_eq!(said("sshd,5=7s,signal=1s,3=0"), is("4=1m30s,6=10s,7=5s,5=7s,signal=1s"));
    assert_eq!(said("5=7s,sshd"), is(&SSHD.replace("90s", "1m30s")));
    for bad in ["", "sshd,", "256=1s", "-1=1s", "1", "1=", "1=x", "1=1s:never", "=1s", "SSHD", "kill=1s", "1=1s 2=1s"] {
        assert!(penalties(bad).is_err(), "{bad}");
    }
}

#[test]
fn sources_and_their_prefixes() {
    let of = |v4, v6| Some(Prefixes { v4, v6 });
    assert_eq!(per_source("3"), Ok((3, None)));
    assert_eq!(per_source("40@48"), Ok((40, of(None, Some(48)))));
    assert_eq!(per_source("40@32"), Ok((40, of(Some(32), None))));
    assert_eq!(per_source("40@33"), Ok((40, of(None, Some(33)))));
    assert_eq!(per_source("40@24,48"), Ok((40, of(Some(24), Some(48)))));
    assert_eq!(per_source("40@,32"), Ok((40, of(None, Some(32)))));
    assert_eq!(per_source("40@,128"), Ok((40, of(None, Some(128)))));
    assert_eq!(per_source("0@128"), Ok((0, of(None, Some(128)))));
    assert_eq!((sources("1"), sources("16777216")), (Ok(1), Ok(1 << 24)));
    for bad in ["", "0", "16777217", "-1", "x"] {
        assert!(sources(bad).is_err(), "{bad}");
    }
    for bad in [
        "",
        "x",
        "-1",
        "3@",
        "3@129",
        "3@33,64",
        "3@24,129",
        "3@24,48,1",
        "3@,",
        "3@,129",
        "3@24,",
        "@48",
        "4294967296",
    ] {
        assert!(per_source(bad).is_err(), "{bad}");
    }
    assert_eq!(prefixes("0,0"), Ok(Prefixes { v4: Some(0), v6: Some(0) }));
    for bad in ["", "32", "33,64", "32,129", "32,64,1", "-1,64"] {
        assert!(prefixes(bad).is_err(), "{bad}");
    }
}

#[test]
fn pressures_by_resource() {
    assert_eq!(pressure("memory=10"), Ok(Pressures(vec![(Resource::Memory, 10.0)])));
    let all = Pressures(vec![(Resource::Io, 0.5), (Resource::Cpu, 100.0), (Resource::Memory, 10.0)]);
    assert_eq!(pressure("io=0.5,cpu=100,memory=10%"), Ok(all));
    for bad in [
        "",
        "10",
        "memory",
        "memory=",
        "memory=0",
        "memory=-1",
        "memory=100.1",
        "memory=nan",
        "disk=1",
        "io=1,",
        "io=1,io=2",
    ] {
        assert!(pressure(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_dry_run_spares_the_total_unless_it_is_named() {
    let named = |text: &str| dry_run(text).map(|DryRun(all)| all);
    assert_eq!(named("no"), Ok(vec![]));
    let all = named("yes").unwrap();
    assert_eq!((all.len(), all.contains(&"max-connections")), (INFOS.len() - 1, false));
    assert_eq!(named("max-connections,max-per-source"), Ok(vec!["max-connections", "max-per-source"]));
    for bad in ["", "max-wait", "max-connections,", "load"] {
        assert!(dry_run(bad).is_err(), "{bad}");
    }
}

#[test]
fn numbers_and_names() {
    assert_eq!(per_listener("3"), Ok((None, 3)));
    assert_eq!(per_listener("a=b=3"), Ok((Some("a=b".into()), 3)));
    for bad in ["", "x", "a=", "a=-1", "=5", "a:5", "4294967296"] {
        assert!(per_listener(bad).is_err(), "{bad}");
    }
    for bad in ["0", "-1", "nan", "inf", "x"] {
        assert!(load(bad).is_err(), "{bad}");
    }
}
