//! `punctual demo`: what it shows is so, and nothing of it is left behind.

use std::net::TcpListener;

use punctual::client::{Client, ListQuery};
use rustix::process::Signal;
use tokio::process::Command;

use crate::place::{DONE, Hand, Place, USAGE, run};
use crate::server::{binary, until};

/// A program that runs a demo, with a directory of its own for what is temporary, and in
/// surroundings that must not matter.
fn around(place: &Place, program: &str) -> Command {
    std::fs::create_dir_all(place.path("tmp")).expect("a directory");
    place.write("punctual.toml", "nonsense = true\n");
    let mut command = place.command(program);
    command
        .env("TMPDIR", place.path("tmp"))
        .env("PUNCTUAL_STORE__URL", "sqlite://not-mine.db")
        .env("PUNCTUAL_SERVER__LISTEN", "nonsense");
    command
}

fn demo(place: &Place, args: &[&str]) -> Command {
    let mut command = around(place, binary());
    command.arg("demo").args(args);
    command
}

#[track_caller]
fn left_nothing(place: &Place) {
    let left: Vec<_> = std::fs::read_dir(place.path("tmp")).expect("the directory").collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(!place.path("not-mine.db").exists());
}

/// The address that it prints first.
async fn url(demo: &Hand) -> String {
    until("an address", || async {
        let (_, rest) =
            demo.answer().split_once(" is on ").map(|(a, b)| (a.len(), b.to_owned()))?;
        rest.split_once('\n').map(|(url, _)| url.to_owned())
    })
    .await
}

/// A sample of its `/metrics`.
async fn metric(url: &str, series: &str) -> f64 {
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let answer = client.get(format!("{url}/metrics")).send().await.expect("an answer");
    let text = answer.text().await.expect("text");
    let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.map_or(0.0, |value| value.parse().expect("a number"))
}

#[tokio::test]
async fn the_stuck_queue_is_found_cured_as_printed_and_nothing_stays() {
    let place = Place::new();
    let demo = Hand::start(demo(&place, &["--listen", "127.0.0.1:0", "--stuck-after", "2s"]));
    let url = url(&demo).await;

    demo.until_answers("episode opened: archive archive.pack no_workers").await;
    demo.until_answers("STUCK ").await;
    let failed = ListQuery { status: Some("failed".into()), ..ListQuery::default() };
    let jobs = Client::new(&url, None).expect("a client").list(&failed).await.expect("a list").jobs;
    let corrupt = jobs.first().and_then(|job| job.error.clone()).expect("a failed job");
    assert_eq!((jobs[0].kind.as_str(), corrupt.kind.as_str()), ("thumb.corrupt", "corrupt-image"));
    for (queue, status) in [("mail", "completed"), ("thumbnails", "completed")] {
        let series =
            format!("punctual_jobs_finished_total{{queue=\"{queue}\",status=\"{status}\"}}");
        let (url, series) = (&url, &series);
        until(series, || async move { (metric(url, series).await > 3.0).then_some(()) }).await;
    }
    let mail = "punctual_jobs_finished_total{queue=\"mail\",status=\"failed\"}";
    assert!(metric(&url, mail).await.abs() < 0.5, "mail never fails");

    // As a spectator would: the line is copied from the screen.
    let said = demo.answer();
    let cure = said.lines().find(|l| l.contains("--queue archive --exec")).expect("a cure");
    assert!(cure.contains(binary()) && cure.contains(&url), "{cure}");
    let mut worker = place.command("sh");
    worker.args(["-c", &format!("exec {cure}")]);
    let worker = Hand::start(worker);
    demo.until_answers("episode ended: archive archive.pack").await;
    worker.signal(Signal::TERM);
    worker.ended().await.ended(DONE);

    demo.signal(Signal::INT);
    let said = demo.ended().await.ended(DONE);
    assert_eq!(said.err, "");
    assert!(said.out.contains("\nQUEUE ") && said.out.ends_with(" is removed.\n"), "{}", said.out);
    assert!(!said.out.contains('\x1b'), "{}", said.out);
    left_nothing(&place);
}

#[tokio::test]
async fn it_finds_another_port_and_ends_by_itself() {
    let place = Place::new();
    // Ours, or somebody else has it already.
    let _taken = TcpListener::bind("127.0.0.1:8080");
    let said = run(demo(&place, &["--seconds", "1"])).await.ended(DONE);
    assert!(said.out.contains("(127.0.0.1:8080 is taken"), "{}", said.out);
    assert!(said.out.contains("explain --server http://127.0.0.1:"), "{}", said.out);
    left_nothing(&place);
}

#[tokio::test]
async fn what_cannot_work_is_refused_and_leaves_nothing() {
    let place = Place::new();
    for line in [["--listen", "0.0.0.0:0"], ["--stuck-after", "1ms"], ["--seconds", "0"]] {
        run(demo(&place, &line)).await.ended(USAGE);
    }
    let mut loud = demo(&place, &["--listen", "127.0.0.1:0"]);
    loud.env("RUST_LOG", "punctual=loud");
    run(loud).await.ended(USAGE).complains(&["RUST_LOG"]);
    let taken = place.url().replace("http://", "");
    run(demo(&place, &["--listen", &taken])).await.complains(&["choose another with --listen"]);
    left_nothing(&place);
}

#[tokio::test]
async fn it_ends_quietly_when_nobody_reads_it() {
    let place = Place::new();
    let mut shell = around(&place, "sh");
    let line =
        format!("{{ '{}' demo --listen 127.0.0.1:0; echo $? >code; }} | head -n 1", binary());
    shell.args(["-c", &line]);
    let said = run(shell).await.ended(DONE);
    assert_eq!((said.out.lines().count(), said.err.as_str()), (1, ""));
    assert_eq!(place.until_file("code").await, "0\n");
    left_nothing(&place);
}

/// Runs a command on a terminal of 100 columns and 30 rows, presses Ctrl-C after three frames,
/// and prints all that it wrote.
const TERMINAL: &str = r"
import fcntl, os, pty, struct, sys, termios
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack('HHHH', 30, 100, 0, 0))
said, pressed = b'', False
while True:
    try:
        chunk = os.read(terminal, 65536)
    except OSError:
        break
    if not chunk:
        break
    said += chunk
    if not pressed and said.count(b'(Ctrl-C ends it)') >= 3:
        os.write(terminal, b'\x03')
        pressed = True
sys.stdout.buffer.write(said)
sys.stdout.flush()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
";

async fn on_a_terminal(place: &Place, no_color: &str) -> String {
    let program = place.write("terminal.py", TERMINAL);
    let mut python = around(place, "python3");
    python
        .arg(program)
        .args([binary(), "demo", "--listen", "127.0.0.1:0"])
        .env("TERM", "xterm")
        .env("NO_COLOR", no_color);
    run(python).await.ended(DONE).out
}

#[tokio::test]
async fn on_a_terminal_it_redraws_and_gives_the_cursor_back() {
    let place = Place::new();
    let colourful = on_a_terminal(&place, "").await;
    for part in ["\x1b[?25l", "\x1b[1mpunctual demo  http://127.0.0.1:", "A\x1b[1mpunctual demo"] {
        assert!(colourful.contains(part), "{part:?} is not in {colourful:?}");
    }
    let (_, after) = colourful.rsplit_once("\x1b[?25l").expect("a hidden cursor");
    assert!(after.contains("\x1b[?7h\x1b[?25h") && after.contains(" is removed."), "{after:?}");
    left_nothing(&place);

    let plain = on_a_terminal(&place, "1").await;
    assert!(plain.contains("\x1b[?25l") && !plain.contains("\x1b[1m"), "{plain:?}");
    assert!(!plain.contains("\x1b[3") && !plain.contains("\x1b[0m"), "{plain:?}");
    left_nothing(&place);
}
