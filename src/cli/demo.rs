//! `punctual demo`: the product, alive in one terminal.
//!
//! A real server on a temporary store, real workers and clients that reach it over HTTP, and a
//! screen. Nothing on the screen is made up: queues and episodes are what the server's own engine
//! answers, and the events are the server's own log. Thresholds are short, so that the queue
//! without workers is stuck, and says why, within half a minute.
//!
//! Invariants:
//! - the environment and a `punctual.toml` change nothing: a demo never touches a real store;
//! - however it ends (a time, a signal, a closed terminal, an error) workers say goodbye, the
//!   server drains, the store is removed, and the terminal is as it was.
//!
//! Unlike all other commands this one holds a server in its hand, and asks its engine.

mod crew;
mod ending;
mod feed;
mod frame;
mod look;
mod scene;
mod scratch;
mod screen;
mod words;

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use tokio::time::{Instant, MissedTickBehavior, interval};

use self::crew::Crew;
use self::ending::Ending;
use self::feed::Feed;
use self::look::Looker;
use self::scene::Traffic;
use self::scratch::Scratch;
use self::screen::Screen;
use self::words::Words;
use super::{Done, Failure};
use crate::client::Client;
use crate::config::Config;
use crate::server::Server;

/// Where it listens unless told otherwise: where every other command looks for a server.
const HOME: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// How often it looks at the server.
const LOOK: Duration = Duration::from_secs(1);

/// Without a terminal it tells how things are after every so many looks.
const LOOKS_A_LINE: u64 = 5;

#[derive(Debug, Args)]
#[command(
    about = "Show the product alive: a server with workers, traffic, failures and a stuck queue",
    long_about = "Show the product alive in one terminal: a server on a temporary store, workers \
                  and traffic, a kind that fails, and a queue that becomes stuck because nobody \
                  takes its jobs.\n\n\
                  It prints what to open and try in another terminal, and shows the queues and \
                  what happens in them; without a terminal it prints a line every 5 s. Ctrl-C \
                  ends it and removes its store. Configuration files and PUNCTUAL_* settings do \
                  not apply.",
    after_long_help = "Examples:\n  punctual demo\n  \
                       punctual demo --listen 127.0.0.1:0 --seconds 60\n  \
                       punctual demo --stuck-after 5s"
)]
pub(super) struct DemoArgs {
    /// The address to listen on, of this machine only [default: 127.0.0.1:8080, or a free port if
    /// that is taken]
    #[arg(long, value_name = "ADDR", value_parser = address)]
    listen: Option<SocketAddr>,
    /// End after so many seconds [default: at Ctrl-C]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=604_800))]
    seconds: Option<u64>,
    /// When a job that nobody takes counts as stuck, 1s to 1h
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = stuck_after)]
    stuck_after: Duration,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let addr: SocketAddr =
        text.parse().map_err(|_| "write an address and a port, like 127.0.0.1:8080".to_owned())?;
    if addr.ip().is_loopback() {
        Ok(addr)
    } else {
        Err("the demo has no tokens and serves this machine only; write 127.0.0.1:PORT".to_owned())
    }
}

fn stuck_after(text: &str) -> Result<Duration, String> {
    let span = super::duration(text)?;
    let range = Duration::from_secs(1)..=Duration::from_secs(3_600);
    if range.contains(&span) { Ok(span) } else { Err("it may be 1s to 1h".to_owned()) }
}

pub(super) fn run(args: &DemoArgs) -> Done {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| {
            Failure::no(format!("cannot start the runtime: {e}; raise the process limit"))
        })?
        .block_on(demo(args))
}

async fn demo(args: &DemoArgs) -> Done {
    // First of all: from here on a signal ends it in order.
    let mut ending = Ending::listen(args.seconds)?;
    let scratch = Scratch::new()?;
    let feed = Feed::new();
    feed.log_to(&scratch.log())?;
    let (listen, moved) = place(args.listen);
    let text = scene::config(listen, &scratch.store_url()?, args.stuck_after);
    let config = Config::from_toml(&text)
        .map_err(|e| Failure::no(format!("the demo's configuration is refused: {e}")))?;
    let server = Server::start(&config).await.map_err(|e| Failure::no(e.to_string()))?;
    let words = Words::new(server.addr(), moved.then_some(HOME), &scratch, args.stuck_after);
    let client = Client::new(words.url(), None)?;
    let crew = Crew::start(&client);
    let traffic = Traffic::start(&client);
    let mut looker = Looker::new(server.engine().clone(), client);
    let shown = show(&mut looker, &feed, &words, &mut ending).await;
    let lasted = feed.elapsed();

    traffic.stop().await;
    crew.leave(&mut ending).await;
    let done = looker.done();
    server.shut_down(ending.hurry()).await;
    scratch.remove()?;
    if shown? == Shown::ToTheEnd {
        screen::say(&words.farewell(lasted, done)).or_else(|e| reader_gone(&e))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The address to ask for, and whether it is not the usual one because that is taken.
fn place(wish: Option<SocketAddr>) -> (SocketAddr, bool) {
    match wish {
        Some(addr) => (addr, false),
        None => match TcpListener::bind(HOME) {
            Err(e) if e.kind() == ErrorKind::AddrInUse => (SocketAddr::new(HOME.ip(), 0), true),
            // Of any other trouble the server tells better.
            Ok(_) | Err(_) => (HOME, false),
        },
    }
}

/// How the showing went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    ToTheEnd,
    /// Nobody reads stdout any more, which ends it quietly.
    ToNobody,
}

async fn show(
    looker: &mut Looker,
    feed: &Feed,
    words: &Words,
    ending: &mut Ending,
) -> Result<Shown, Failure> {
    match show_until(looker, feed, words, ending).await {
        Ok(()) => Ok(Shown::ToTheEnd),
        Err(error) => reader_gone(&error).map(|()| Shown::ToNobody),
    }
}

fn reader_gone(error: &io::Error) -> Result<(), Failure> {
    // A terminal that was closed answers with an input/output error.
    let hung_up = error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error());
    if hung_up || error.kind() == ErrorKind::BrokenPipe {
        return Ok(());
    }
    Err(Failure::no(format!("cannot write to stdout: {error}; check where it is redirected")))
}

async fn show_until(
    looker: &mut Looker,
    feed: &Feed,
    words: &Words,
    ending: &mut Ending,
) -> io::Result<()> {
    screen::say(&words.intro())?;
    let mut screen = Screen::of_stdout();
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looks: u64 = 0;
    let mut told = 0;
    let mut over = false;
    while !over {
        tokio::select! {
            biased;
            () = ending.wait() => over = true,
            _ = ticks.tick() => {}
        }
        let look = looker.look(feed, Instant::now()).await;
        if let Some(screen) = &mut screen {
            let size = screen.resized();
            let events = feed.latest(frame::MOST_EVENTS);
            screen.draw(&frame::frame(&look, &events, feed.elapsed(), words, size))?;
        } else {
            let (events, next) = feed.since(told);
            told = next;
            let mut text = frame::event_lines(&events);
            if over {
                text.push_str(&frame::table(&look, usize::MAX));
            } else if looks.is_multiple_of(LOOKS_A_LINE) {
                text.push_str(&frame::status(&look, feed.elapsed()));
            }
            screen::say(&text)?;
        }
        looks += 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_served() {
        assert!(address("127.0.0.1:0").is_ok() && address("[::1]:80").is_ok());
        for wrong in ["0.0.0.0:8080", "192.0.2.1:1", "localhost:80", "8080", ""] {
            assert!(address(wrong).unwrap_err().contains("127.0.0.1:"), "{wrong}");
        }
        assert!(stuck_after("500ms").is_err() && stuck_after("2h").is_err());
        assert_eq!(stuck_after("3s"), Ok(Duration::from_secs(3)));
    }

    #[test]
    fn a_named_address_is_never_left_for_another() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = taken.local_addr().unwrap();
        assert_eq!(place(Some(addr)), (addr, false));
    }
}
