//! A server that is to end and cannot: until it has, nobody does the maintenance.

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::case::Case;
use crate::daemon::until;
use crate::expect::critical;

pub(crate) async fn without_end(case: &mut Case) {
    case.set("SERVER__SHUTDOWN_GRACE", "10m");
    case.set("SERVER__BODY_TIMEOUT", "10m");
    case.start("").await;
    case.healthy().await;

    // A client whose body does not come: the server waits for it.
    let address = case.url().trim_start_matches("http://").to_owned();
    let mut slow = TcpStream::connect(&address).await.expect("a connection");
    let head = format!(
        "POST /v1/jobs HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Content-Length: 100\r\n\r\n{{"
    );
    slow.write_all(head.as_bytes()).await.expect("half a request");
    until("the server to wait for the body", || async {
        let (_, metrics) = case.get("/metrics").await;
        let waits = "http_server_active_requests{http_request_method=\"POST\"} 1";
        metrics.contains(waits).then_some(())
    })
    .await;
    case.injected();
    case.drain();
    case.raises(&[critical("PunctualLeaderMissing")]).await;

    case.cured().await;
    drop(slow);
    case.ends().await;
    case.start("").await;
    case.clears().await;
}
