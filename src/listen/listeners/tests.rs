//! What a set of listeners does as a whole.
#![forbid(unsafe_code)]

use super::*;
use crate::poll::Ready;
use std::net::{SocketAddr, TcpListener, TcpStream};

/// So many listeners of one name, their addresses, and the set in which they are.
fn listeners(count: usize) -> (Listeners, Vec<SocketAddr>, Poll) {
    let sockets: Vec<_> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let at = sockets.iter().map(|socket| socket.local_addr().unwrap()).collect();
    let poll = Poll::new().unwrap();
    let all = sockets.into_iter().map(|socket| Listener::new(socket.into(), "web".into()).unwrap()).collect();
    (Listeners::new(all, &poll).unwrap(), at, poll)
}

/// Who is ready now, in order.
fn ready(poll: &Poll, now: Instant) -> Vec<usize> {
    let mut ready = Ready::new();
    poll.wait(&mut ready, Some(now), now).unwrap();
    let mut ready: Vec<_> = ready.listeners().collect();
    ready.sort_unstable();
    ready
}

#[test]
fn those_of_one_name_have_labels_of_their_own() {
    let (all, ..) = listeners(3);
    assert_eq!(all.iter().map(|listener| &*listener.label).collect::<Vec<_>>(), ["web", "web:2", "web:3"]);
    assert_eq!((all.labelled(|label| label == "web:2"), all.labelled(|label| label == "x")), (Some(1), None));
    assert_eq!(listeners(1).0.labelled(|label| label == "x"), Some(0), "there is just one");
}

#[test]
fn full_is_one_listener_and_a_pause_is_all() {
    let (mut all, at, poll) = listeners(2);
    let now = Instant::now();
    let _clients: Vec<_> = at.iter().map(|at| TcpStream::connect(at).unwrap()).collect();
    assert_eq!(ready(&poll, now), [0, 1]);
    all.set_full(now, 1, true, &poll);
    assert_eq!((ready(&poll, now), all.are_watched()), (vec![0], false));
    assert!(matches!(all.accept(now, 1, &poll), Taken::Nobody), "it is not watched");
    let pause = all.pause(now, &poll);
    assert_eq!((ready(&poll, now), all.deadline()), (vec![], Some(now + pause)));
    all.set_full(now, 1, false, &poll);
    assert!(ready(&poll, now).is_empty(), "the pause lasts");
    all.on_time(now + pause, &poll);
    assert_eq!((ready(&poll, now), all.are_watched()), (vec![0, 1], true));
    assert!(matches!(all.accept(now, 1, &poll), Taken::Client(client) if client.listener == 1));
    assert!(matches!(all.accept(now, 1, &poll), Taken::Nobody));
    all.close(now, &poll);
    all.set_full(now, 0, false, &poll);
    assert!(ready(&poll, now).is_empty(), "closed for good");
    assert!(all.next_news().is_none(), "nothing was amiss");
}

#[test]
fn a_crowd_is_at_all_listeners() {
    let (mut all, at, poll) = listeners(2);
    let now = Instant::now();
    let _clients: Vec<_> = at.iter().map(|at| TcpStream::connect(at).unwrap()).collect();
    all.set_full(now, 0, true, &poll);
    all.set_crowded(now, true, &poll);
    assert_eq!((ready(&poll, now), all.are_watched()), (vec![], false));
    assert!(matches!(all.accept(now, 1, &poll), Taken::Nobody), "it was ready before");
    all.set_crowded(now, false, &poll);
    assert_eq!((ready(&poll, now), all.are_watched()), (vec![1], false), "the other is full as before");
    all.set_full(now, 0, false, &poll);
    assert_eq!((ready(&poll, now), all.are_watched()), (vec![0, 1], true));
}
