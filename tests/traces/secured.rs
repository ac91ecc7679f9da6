//! To a collector over TLS, with a certificate of the test's own authority.

use std::path::Path;
use std::process::Command;

use crate::daemon::{Daemon, free_port};
use crate::scene::{accounted, dropped, exported, server, submit};
use crate::server::until;

/// Takes what comes from clients that show a certificate of the authority.
const COLLECTOR: &str = r#"
import http.server, ssl, sys
port, directory = int(sys.argv[1]), sys.argv[2]
class Taker(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        open(directory + "/body", "ab").write(body)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(directory + "/server.crt", directory + "/server.key")
context.load_verify_locations(directory + "/ca.crt")
context.verify_mode = ssl.CERT_REQUIRED
server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Taker)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"#;

fn openssl(dir: &Path, line: &str) {
    let output = Command::new("openssl")
        .args(line.split(' '))
        .current_dir(dir)
        .output()
        .expect("openssl; apt-get install openssl");
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// An authority, and a server and a client that it vouches for.
fn certificates(dir: &Path) {
    openssl(
        dir,
        "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -subj /CN=authority -days 2",
    );
    for (who, usage) in [("server", "serverAuth"), ("client", "clientAuth")] {
        let extensions = format!("subjectAltName=DNS:localhost\nextendedKeyUsage={usage}\n");
        std::fs::write(dir.join("extensions"), extensions).expect("a file");
        openssl(
            dir,
            &format!(
                "req -newkey rsa:2048 -nodes -keyout {who}.key -out {who}.csr -subj /CN={who}"
            ),
        );
        openssl(
            dir,
            &format!(
                "x509 -req -in {who}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 \
                 -extfile extensions -out {who}.crt"
            ),
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_trusted_gets_the_spans_and_nobody_else() {
    let dir = tempfile::tempdir().expect("a directory");
    certificates(dir.path());
    let port = free_port();
    let mut python = Command::new("python3");
    python.args(["-c", COLLECTOR, &port.to_string()]).arg(dir.path());
    let collector = Daemon::start(python, "python3");
    let listens = || async { std::net::TcpStream::connect(("127.0.0.1", port)).ok() };
    drop(until("the collector to listen", listens).await);
    let url = format!("https://localhost:{port}");
    let file = |name: &str| dir.path().join(name).display().to_string();
    let (ca, crt, key) = (file("ca.crt"), file("client.crt"), file("client.key"));

    let trusting = [
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", ca.as_str()),
        ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", crt.as_str()),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", key.as_str()),
    ];
    let known = server(&url, &trusting);
    submit(&known).await;
    let metrics = accounted(&known).await;
    assert_eq!(exported(&metrics, "ok") as u64, 2, "{}", collector.log());
    let body = std::fs::read(dir.path().join("body")).expect("what was sent");
    assert!(body.windows(9).any(|w| w == b"publish q"), "{} bytes", body.len());

    // Without the authority the collector is a stranger, without the certificate we are.
    let quickly = ("OTEL_EXPORTER_OTLP_TIMEOUT", "300");
    for settings in [&[quickly][..], &[quickly, trusting[0]]] {
        let stranger = server(&url, settings);
        submit(&stranger).await;
        let metrics = accounted(&stranger).await;
        assert_eq!(dropped(&metrics, "export_failed") as u64, 2, "{settings:?}");
    }
    assert_eq!(std::fs::read(dir.path().join("body")).expect("the same").len(), body.len());
}

#[test]
fn a_file_that_will_not_do_is_told_at_the_start() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("ca.crt");
    std::fs::write(&file, "no certificate\n").expect("a file");
    let mut launch = crate::server::Launch::new(dir.path().join("jobs.db"))
        .set("TELEMETRY__OTLP_ENDPOINT", "https://127.0.0.1:4318");
    let name = "OTEL_EXPORTER_OTLP_CERTIFICATE".to_owned();
    launch.env.push((name, file.display().to_string()));
    let (code, said) = launch.refused();
    assert_eq!(code, Some(2), "{said:?}");
    assert!(said.last().expect("a line").contains("ca.crt cannot be used for TLS"), "{said:?}");
}
