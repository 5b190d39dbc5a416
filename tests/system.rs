//! The shipped units and the real binary under real systemd: version 252 (bookworm), 257 (trixie) and the newest (forky,
//! 262), with journald, the real services and clients, each in a container of its own that all cases of that root share,
//! one after the other.
//!
//! Needs root, systemd-nspawn and the trees that `tests/system/roots.sh` builds. Without these each case says SKIPPED on
//! stderr and passes; where CI=true it fails instead, so that a lane cannot stop testing unnoticed. Only forky's tree may
//! be missing there.

mod common;

mod system {
    pub mod client;
    pub mod journal;
    pub mod rig;

    pub mod apart;
    pub mod beside;
    pub mod chaos;
    pub mod check;
    pub mod contract;
    pub mod control;
    pub mod convert;
    pub mod hand_over;
    pub mod life;
    pub mod limit;
    pub mod metrics;
    pub mod services;
    pub mod sources;
    pub mod ssh;
    pub mod stream;
    pub mod units;
    pub mod varlink;
}

/// Each case is a module with a test for each root: `stop_lets_transfers_finish::v252`. Tests start in the order of their
/// names, so that this way round all containers are busy from the start.
macro_rules! in_each_root {
    ($($room:ident :: $case:ident,)*) => { $(
        mod $case {
            use super::system::{rig, $room};
            #[test]
            fn newest() {
                rig::with("forky", $room::$case);
            }
            #[test]
            fn v252() {
                rig::with("bookworm", $room::$case);
            }
            #[test]
            fn v257() {
                rig::with("trixie", $room::$case);
            }
        }
    )* };
}

in_each_root! {
    units::verify_finds_nothing_to_say,
    units::the_exposure_is_as_the_readme_says,
    units::the_hardening_leaves_rsync_whole,
    services::git_clones_wait_for_their_turn,
    ssh::ssh_is_refused_at_once,
    ssh::ssh_counts_logins_across_restart_and_crash,
    ssh::sshd_tells_how_a_login_failed,
    ssh::ssh_failures_add_up,
    services::daytime_tells_the_time_from_a_tight_sandbox,
    services::the_template_serves_any_command,
    services::a_command_is_the_process_that_options_ask_for,
    services::commands_of_shipped_units_are_apart,
    services::a_member_of_a_fleet_tells_what_fits,
    services::each_client_has_a_sandbox_of_its_own,
    sources::a_source_has_no_more_after_a_restart_or_a_crash,
    sources::the_journal_has_the_source_that_is_over,
    sources::max_connections_per_source_says_the_same,
    limit::the_cap_is_exact_and_says_so,
    limit::the_journal_entry_has_every_field,
    limit::waiting_clients_are_served_in_turn,
    limit::a_real_client_waits_for_its_turn,
    limit::who_waits_in_vain_is_told,
    limit::a_stop_tells_who_waits,
    limit::a_thousand_quick_connections_leave_the_socket_up,
    contract::the_command_finds_what_accept_yes_would_give,
    convert::real_pairs_serve_the_same,
    control::root_alone_reaches_each_control_socket,
    control::a_control_socket_comes_back,
    control::no_command_is_answered_at_the_control_socket,
    metrics::a_timer_writes_a_file_for_node_exporter,
    metrics::a_service_that_runs_gets_a_listener_for_metrics,
    life::the_first_client_starts_it_and_status_tells,
    life::a_line_of_a_command_leads_to_its_client,
    life::stop_lets_transfers_finish,
    life::stop_ends_those_that_do_not,
    life::a_stopped_journald_delays_nobody,
    life::the_watchdog_is_fed,
    life::a_hung_or_killed_daemon_is_replaced,
    life::a_wrong_setting_keeps_the_socket_up,
    life::a_line_left_over_from_accept_yes_is_named,
    life::a_restart_during_the_start_is_no_failure,
    stream::the_journal_has_all_of_one_client,
    stream::the_journal_has_all_of_one_client_apart,
    stream::a_flood_of_lines_is_its_own_client_s,
    stream::lines_leave_a_tight_sandbox,
    hand_over::restart_cuts_nobody_and_refuses_nobody,
    hand_over::the_held_keep_their_order_and_see_the_end,
    hand_over::every_client_is_accounted_for,
    hand_over::each_listener_keeps_its_own_count,
    hand_over::the_cap_is_exact_after_a_crash,
    hand_over::new_limits_hold_from_the_restart_on,
    hand_over::stop_counts_down_and_leaves_nothing,
    hand_over::stop_tells_those_who_wait,
    hand_over::stop_of_the_socket_leaves_the_living_alone,
    hand_over::an_idle_daemon_goes_and_comes_back,
    hand_over::a_time_limit_holds_across_a_restart,
    hand_over::more_wait_than_descriptors_can_be_passed,
    apart::each_client_has_a_cgroup_over_restart_and_crash,
    apart::an_upgrade_to_cgroups_cuts_nobody,
    apart::a_dynamic_user_has_cgroups_too,
    apart::without_delegation_it_is_said,
    chaos::a_lack_of_descriptors_is_in_the_journal,
    check::check_finds_nothing_in_the_shipped_units,
    check::check_knows_the_units_of_sockcapctl,
    check::check_finds_what_a_drop_in_breaks,
    check::check_tells_what_bare_units_lack,
    check::check_tells_of_an_old_daemon,
}

/// Figures, by hand.
mod accept_yes_beside_sockcap {
    use super::system::{beside, rig};
    #[test]
    #[ignore = "takes minutes, and says how fast this machine is"]
    fn v252() {
        rig::with("bookworm", beside::accept_yes_beside_sockcap);
    }
    #[test]
    #[ignore = "takes minutes, and says how fast this machine is"]
    fn v257() {
        rig::with("trixie", beside::accept_yes_beside_sockcap);
    }
}

/// Older systemd has no such program.
mod systemd_report_reads_all_units {
    use super::system::{metrics, rig};
    #[test]
    fn newest() {
        rig::with("forky", metrics::systemd_report_reads_all_units);
    }
}

/// varlinkctl of older systemd cannot list methods.
mod varlinkctl_calls_every_method {
    use super::system::{rig, varlink};
    #[test]
    fn newest() {
        rig::with("forky", varlink::varlinkctl_calls_every_method);
    }
    #[test]
    fn v257() {
        rig::with("trixie", varlink::varlinkctl_calls_every_method);
    }
}

/// Seeds take turns, so that all roots have as much to do.
mod chaos_adds_up {
    use super::system::{chaos, rig};
    #[test]
    fn newest() {
        rig::with("forky", |rig| chaos::seeds(rig, 2));
    }
    #[test]
    fn v252() {
        rig::with("bookworm", |rig| chaos::seeds(rig, 0));
    }
    #[test]
    fn v257() {
        rig::with("trixie", |rig| chaos::seeds(rig, 1));
    }
}
