//! Commands that have the daemon's own user and may write to the service's cgroup, and do so against it. They can get around their own
//! limits, which is said in THREATS.md; they cannot keep the daemon from its work, or live on after their end.

use crate::common::*;
use crate::group::{Group, cgroup_of};
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid, chown};

/// A group that belongs to an ordinary user, and how to become that.
fn of_a_user() -> Option<(Group, [&'static str; 4])> {
    let (group, user) = (Group::new()?, another_user("a command against its daemon's cgroups")?);
    for name in ["", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"] {
        let (uid, gid) = (Uid::from_raw(61874), Gid::from_raw(61874));
        chown(&group.path().join(name), Some(uid), Some(gid)).expect("chown");
    }
    Some((group, user))
}

/// In its own cgroup it does this.
fn does(group: &Group, what: &str) -> [String; 3] {
    let script = format!("exec 2>/dev/null; cd {}/conn-{{id}}; {what}", group.path().display());
    ["/bin/sh".into(), "-c".into(), script]
}

/// What a command has made below its own cgroup is removed, whatever it looks like, and meanwhile clients are served.
#[test]
fn no_cgroups_below_its_own_keep_the_daemon() {
    let Some((group, user)) = of_a_user() else { return };
    for (what, goes) in [
        ("mkdir -p $(printf 'x/%.0s' $(seq 20))", true),
        (r#"mkdir -p "$(printf "\377\376")/y""#, true),
        ("mkdir -p a/b; chmod 0 a a/b/cgroup.events", true),
        ("mkdir -p a/b; chmod 0 cgroup.events .", true),
        ("seq 200 | sed s,$,/x, | xargs mkdir -p", true),
        ("mkdir -p $(printf 'x/%.0s' $(seq 300))", false),
    ] {
        for until_end_of in ["command", "cgroup"] {
            let command = does(&group, &format!("{what}; echo done"));
            let args = ["--listen", "127.0.0.1:0", "--slot-until", until_end_of];
            let mut daemon = group.sockcap(&args).wrap(&user).run(&command).start();
            for id in [1, 2] {
                assert_eq!(to_end(daemon.connect()), "done\n", "{what}");
                daemon.wait_text(&format!("connection {id} ended: "));
            }
            let is_gone = |id: u64| !group.path().join(format!("conn-{id}")).exists();
            until(what, || !goes || (is_gone(1) && is_gone(2)));
            assert_eq!(daemon.stop().served, 2, "{what}");
            group.clear();
        }
    }
}

/// Its permissions are its own user's, and the daemon's.
#[test]
fn no_change_of_permissions_saves_it() {
    let Some((group, user)) = of_a_user() else { return };
    let hides = "trap '' TERM; (trap '' HUP; exec setsid sleep 100000) </dev/null >/dev/null & echo $$; \
                 chmod 0 cgroup.kill cgroup.procs cgroup.events cgroup.freeze .; while :; do sleep 1000; done";
    let args = ["--listen", "127.0.0.1:0", "--time-limit", "1s", "--kill-grace", "100ms", "--slot-until", "cgroup"];
    let mut daemon = group.sockcap(&args).wrap(&user).run(&does(&group, hides)).start();
    let session = Session::open(daemon.addr(0));
    daemon.wait_text("connection 1 reached the time limit");
    to_end(session.stream);
    daemon.wait_text("connection 1 ended: ");
    group.until_empty();
    assert_eq!(daemon.stop().served, 1);
}

/// The signal that a time limit sends first reaches it, too; and a kernel that has no cgroup.kill ends who can be found.
#[test]
fn no_change_of_permissions_hides_it() {
    let Some((group, user)) = of_a_user() else { return };
    let hides = "mkdir -p a/b; (echo 0 >a/b/cgroup.procs; exec setsid sh -c 'trap \"echo told; exit\" TERM; \
                 chmod 0 ../conn-{id}/a/b/cgroup.procs ../conn-{id}/a/b ../conn-{id}/a/cgroup.procs ../conn-{id}/a cgroup.procs .; \
                 echo hidden; sleep 100000 >/dev/null & wait') & wait";
    let args = ["--listen", "127.0.0.1:0", "--time-limit", "1s", "--slot-until", "cgroup"];
    let mut daemon = group.sockcap(&args).wrap(&user).run(&does(&group, hides)).start();
    let mut client = daemon.connect();
    assert_eq!(line(&mut client), "hidden");
    assert_eq!(to_end(client), "told\n");
    daemon.wait_text("connection 1 ended: ");
    group.until_empty();
    assert_eq!(daemon.stop().served, 1);
}

/// Cgroups with the numbers of connections to come, and somebody in each.
#[test]
fn numbers_that_it_takes_first_are_taken_back() {
    let Some((group, user)) = of_a_user() else { return };
    let takes = "[ {id} != 1 ] || for i in 20 21 22; do mkdir -p ../conn-$i/x; \
                 setsid sleep 100000 </dev/null >/dev/null & echo $! >../conn-$i/x/cgroup.procs; done; echo done";
    let mut daemon = group.sockcap(&["--listen", "127.0.0.1:0"]).wrap(&user).run(&does(&group, takes)).start();
    let mut served = 0;
    until("forty are served", || {
        served += u32::from(to_end(daemon.connect()) == "done\n");
        served == 40
    });
    group.until_empty();
    assert_eq!(daemon.stop().served, 40);
}

/// A number that the daemon cannot have given does not become the next daemon's last.
#[test]
fn no_number_that_it_makes_up_is_gone_on_from() {
    let Some((group, user)) = of_a_user() else { return };
    let command = does(&group, "echo $$; read -r words; eval \"$words\"; read -r end");
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its number");
    let args = ["--listen", &port.to_string()];
    let mut first = group.sockcap(&args).wrap(&user).run(&command).start();
    let mut session = Session::open(first.addr(0));
    let far = group.path().join(format!("conn-{}", 1u64 << 53));
    let words = "mkdir ../conn-9007199254740992; echo $$ >../conn-9007199254740992/cgroup.procs; echo there\n";
    std::io::Write::write_all(&mut session.stream, words.as_bytes()).expect("it reads");
    assert_eq!(line(&mut session.stream), "there");
    assert!(far.exists());
    first.signal(Signal::SIGKILL);
    first.finish();
    let heir = group.sockcap(&args).wrap(&user).run(&command).start();
    let next = Session::open(heir.addr(0));
    let name = cgroup_of(next.pid.as_raw());
    let number: u64 = name.strip_prefix("conn-").and_then(|id| id.parse().ok()).expect("a number");
    assert!(number < 1 << 53, "{name}");
}

/// Whoever moves into the cgroup of a connection that is ended ends with it.
#[test]
fn nobody_lives_on_in_what_was_ended() {
    let Some((group, user)) = of_a_user() else { return };
    let folder = ControlFolder::new("apart-hostile");
    chown(folder.socket().parent().expect("its folder"), Some(Uid::from_raw(61874)), None).expect("chown");
    let fills = "echo $$; [ {id} = 1 ] || { (while [ -d ../conn-1 ]; do sleep 100000 </dev/null >/dev/null & \
                 echo $! >../conn-1/cgroup.procs; done) & fills=$!; }; read -r word; \
                 [ {id} = 1 ] || { kill $fills; wait; echo over; read -r end; }";
    let fills = fills.replace("{ (", "{{ (").replace("; }", "; }}").replace("|| { kill", "|| {{ kill");
    let socket = folder.socket().display().to_string();
    let args = ["--listen", "127.0.0.1:0", "--slot-until", "cgroup", "--control", &socket];
    let mut daemon = group.sockcap(&args).wrap(&user).run(&does(&group, &fills)).start();
    let (first, mut second) = (Session::open(daemon.addr(0)), Session::open(daemon.addr(0)));
    until("some have come into its cgroup", || group.members(1).len() > 5);
    Control::connect(&folder.socket()).call("Stop", serde_json::json!({ "id": 1, "force": true }));
    to_end(first.stream);
    std::io::Write::write_all(&mut second.stream, b"enough\n").expect("it reads");
    assert_eq!(line(&mut second.stream), "over");
    daemon.wait_text("connection 1 ended: ");
    assert!(!group.is_populated(1));
}

/// What is ready for connections to come can be removed by a command, and is made again.
#[test]
fn what_it_removes_is_made_again() {
    let Some((group, user)) = of_a_user() else { return };
    let removes = format!(
        "[ {{id}} != 1 ] || {{{{ until [ -d ../conn-{} ]; do sleep 0.1; done; rmdir ../conn-*; }}}}; echo done",
        1 + 8
    );
    let mut daemon = group.sockcap(&["--listen", "127.0.0.1:0"]).wrap(&user).run(&does(&group, &removes)).start();
    let mut served = 0;
    until("twenty are served", || {
        served += u32::from(to_end(daemon.connect()) == "done\n");
        served == 20
    });
    assert_eq!(daemon.stop().served, 20);
}

/// Beside the connections' cgroups, and far below.
#[test]
fn who_hides_deep_is_found_at_a_stop() {
    let Some((group, user)) = of_a_user() else { return };
    let hides = "d=../hidden/$(printf 'x/%.0s' $(seq 40)); mkdir -p $d; setsid sleep 100000 </dev/null >/dev/null & \
                 echo $! >$d/cgroup.procs; echo $$; echo $!; read -r end";
    let args = ["--listen", "127.0.0.1:0", "--drain-timeout", "0s", "--kill-grace", "100ms"];
    let mut daemon = group.sockcap(&args).wrap(&user).run(&does(&group, hides)).start();
    let mut session = Session::open(daemon.addr(0));
    let hidden = nix::unistd::Pid::from_raw(line(&mut session.stream).parse().expect("a pid"));
    until("it has left its group", || nix::unistd::getsid(Some(hidden)) == Ok(hidden));
    let events = || std::fs::read_to_string(group.path().join("hidden/cgroup.events")).expect("its events");
    assert!(events().contains("populated 1"), "{}", events());
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.finish().success());
    to_end(session.stream);
    assert!(events().contains("populated 0"), "{}", events());
}
