//! Clients ask for their jobs all the time, instead of when they are told to.

use std::time::Duration;

use futures_util::future::join_all;

use crate::case::{Case, QUEUE};
use crate::workers::{Feed, Hands, QUICKLY, job, submit, until_done};

const CLIENTS: usize = 16;
const REQUESTS: usize = 500;

/// Costs something and breaks nothing: nobody is told.
pub(crate) async fn of_status(case: &mut Case) {
    case.start("").await;
    let hands = Hands::start(case, QUEUE, 4, QUICKLY);
    let ids = submit(&case.client(), &job(QUEUE), CLIENTS).await;
    let feed = Feed::start(case.client(), job(QUEUE), Duration::from_millis(250));
    case.healthy().await;

    let url = case.url();
    let flood = ids.iter().enumerate().map(|(n, id)| {
        let url = format!("{url}/v1/jobs/{id}");
        // Every other asks for what nobody has ever submitted.
        let nobodys = format!("{}0000", &url[..url.len() - 4]);
        let wanted = if n % 2 == 0 { (url, 200) } else { (nobodys, 404) };
        ask(wanted.0, wanted.1)
    });
    join_all(flood).await;
    // Whatever it did would show by now.
    case.scraped(15).await;
    case.quiet().await;
    drop(feed);
    until_done(case, QUEUE).await;
    case.told_nothing();
    drop(hands);
}

async fn ask(url: String, status: u16) {
    let http = reqwest::Client::builder().no_proxy().build().expect("a client");
    for _ in 0..REQUESTS {
        let answer = http.get(&url).send().await.expect("an answer");
        assert_eq!(answer.status().as_u16(), status, "{url}");
        answer.bytes().await.expect("a body");
    }
}
