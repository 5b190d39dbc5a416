//! Who is next with `--queue-order fair`: the source with the fewest running, by its address.

use std::net::TcpStream;

use crate::common::*;

/// Says on stderr, one pipe for all, whom it serves: the order there is the order of service.
const ORDER: &[&str] = &["/bin/sh", "-c", "echo serves $REMOTE_ADDR $REMOTE_PORT >&2; exec /bin/cat"];

/// One client beside one with twelve connections, two of which run: it has the next slot with `fair`, and its turn with `fifo`.
#[test]
fn one_client_beside_one_with_many() {
    // Of those whose commands run at once either may be the first to say so.
    for (order, place) in [("fair", 2..=2), ("fifo", 5..=7)] {
        let queue = tcp_listener("127.0.0.1:0", 1024);
        let options = ["--max-connections", "2", "--when-full", "wait", "--queue-order", order, "--max-wait", "1h"];
        let mut daemon = sockcap(&options).run(ORDER).pass(queue.try_clone().expect("dup")).start();
        let to = daemon.addr(0);
        let mut many: Vec<TcpStream> = (0..6).map(|_| connect_from("127.0.0.1:0", to)).collect();
        let mut one = connect_from("127.0.0.2:0", to);
        many.extend((0..6).map(|_| connect_from("127.0.0.1:0", to)));
        // The one is held when those behind it have been taken.
        until("all are taken", || tcp_info(&queue).tcpi_unacked == 0);
        many[..2].iter_mut().for_each(echoes);
        let mut many = many.into_iter();
        drop(many.next());
        if order == "fifo" {
            many.by_ref().take(5).for_each(|mut client| echoes(&mut client));
        }
        echoes(&mut one);
        drop(one);
        many.for_each(|mut client| echoes(&mut client));
        assert_eq!(daemon.stop(), Totals { accepted: 13, served: 13, ..Totals::default() });
        let served: Vec<_> = daemon.log().iter().filter(|l| l.text.starts_with("serves ")).collect();
        let at = served.iter().position(|l| l.text.starts_with("serves 127.0.0.2 ")).expect("it is served");
        assert!(place.contains(&at), "{order}: {served:#?}");
    }
}
