//! `punctual workers`.

use clap::{Args, Subcommand};

use super::output::{self, Now, Table};
use super::{Connect, Done, Format};
use crate::wire;

#[derive(Debug, Args)]
#[command(
    about = "List workers, or ask one to leave",
    after_long_help = "Examples:\n  punctual workers list\n  punctual workers list --json\n  \
                       punctual workers drain mailer-3"
)]
pub(super) struct WorkersArgs {
    #[command(subcommand)]
    command: WorkersCommand,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Debug, Subcommand)]
enum WorkersCommand {
    /// List workers, what they accept and how busy they are
    List {
        #[command(flatten)]
        format: Format,
    },
    /// Ask a worker to leave: it gets no more jobs, finishes those it has, and ends
    Drain {
        /// The worker's id, as `punctual workers list` shows it
        worker: String,
        #[command(flatten)]
        format: Format,
    },
}

pub(super) async fn run(args: WorkersArgs) -> Done {
    let client = args.connect.client()?;
    match args.command {
        WorkersCommand::List { format } => {
            let list = client.workers().await?;
            let done = output::show(format.json, &list, || table(&list.workers, Now::read()))?;
            if list.workers.is_empty() && !format.json {
                output::note(
                    "no workers; start one with `punctual work --queue default --exec CMD`",
                );
            }
            Ok(done)
        }
        WorkersCommand::Drain { worker, format } => {
            let worker = client.drain_worker(&worker).await?;
            output::show(format.json, &worker, || table(std::slice::from_ref(&worker), Now::read()))
        }
    }
}

fn table(workers: &[wire::Worker], now: Now) -> String {
    let mut table = Table::new(&[
        "WORKER",
        "HOST",
        "VERSION",
        "QUEUES",
        "KINDS",
        ">BUSY",
        ">SEEN",
        "DIRECTIVE",
    ]);
    for worker in workers {
        let kinds = if worker.kinds.is_empty() { "all".into() } else { worker.kinds.join(",") };
        table.row([
            worker.worker_id.clone(),
            output::dash(worker.hostname.as_deref()),
            output::dash(worker.version.as_deref()),
            worker.queues.join(","),
            kinds,
            format!("{}/{}", worker.leases, worker.capacity),
            now.age(&worker.last_seen),
            worker.directive.clone(),
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        let worker = wire::Worker {
            worker_id: "a-1".into(),
            queues: vec!["x".into(), "y".into()],
            capacity: 4,
            leases: 1,
            last_seen: "?".into(),
            directive: "continue".into(),
            ..wire::Worker::default()
        };
        assert_eq!(
            table(&[worker], Now::read()),
            "WORKER  HOST  VERSION  QUEUES  KINDS  BUSY  SEEN  DIRECTIVE\n\
             a-1     -     -        x,y     all     1/4     ?  continue\n"
        );
    }
}
