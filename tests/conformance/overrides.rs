//! Settings that operators put over the configuration: one step with the limits that follow from
//! them, for the revision that was meant, and kept.

use std::time::Duration;

use punctual::domain::overrides::{Changes, IfMatch, QueueKey, Setting};
use punctual::store::{Changed, Overriding, QueueLimits, QueueState, Submitted};

use crate::stores::{START, World, at, done, for_each_store, name};

fn limits(max_running: Option<u32>, max_depth: Option<u64>) -> QueueLimits {
    QueueLimits { name: name("q"), max_running, max_depth }
}

fn change(set: &[(QueueKey, Option<Setting>)], by: &str, configured: QueueLimits) -> Overriding {
    let changes: Changes = set.iter().copied().collect();
    Overriding { changes, by: by.to_owned(), if_match: IfMatch::Any, configured }
}

impl World {
    async fn set(&self, change: Overriding, seconds: u64) -> QueueState {
        done(self.store().override_settings(change, at(seconds)).await.unwrap())
    }

    async fn state(&self) -> QueueState {
        let sample = self.store().sample(at(99)).await.unwrap();
        sample.queues.into_iter().find(|q| q.state.name == name("q")).expect("the queue").state
    }
}

#[tokio::test]
async fn what_is_set_holds_at_once_and_says_who_set_it() {
    for_each_store(|w| async move {
        w.store().set_limits(vec![limits(Some(5), None)], START).await.unwrap();
        let depth = (QueueKey::MaxDepth, Some(Setting::Count(2)));
        let set = w.set(change(&[depth], "ann", limits(Some(5), None)), 1).await;
        assert_eq!((set.max_running, set.max_depth, set.revision), (Some(5), Some(2), 1));
        let known: Vec<_> = set.overrides.iter().map(|(k, o)| (k, o.by.clone(), o.at)).collect();
        assert_eq!(known, [(QueueKey::MaxDepth, "ann".to_owned(), at(1))]);
        assert_eq!(w.state().await, set);
        w.submit_many(2, at(2)).await;
        let third = w.store().submit(vec![w.job(at(2))], at(2)).await.unwrap();
        assert!(matches!(third[0], Submitted::QueueFull(_)), "{third:?}");

        let one = (QueueKey::MaxRunning, Some(Setting::Count(1)));
        let by_bob = w.set(change(&[depth, one], "bob", limits(Some(5), None)), 3).await;
        assert_eq!((by_bob.max_running, by_bob.revision), (Some(1), 2));
        let by: Vec<_> = by_bob.overrides.iter().map(|(_, o)| o.by.as_str()).collect();
        assert_eq!(by, ["bob", "ann"], "the depth was so already");
        assert_eq!(w.take(5, at(4)).await.len(), 1);

        let again = w.set(change(&[one], "eve", limits(Some(5), None)), 5).await;
        assert_eq!(again, by_bob, "nothing has changed");
        let back = [(QueueKey::MaxRunning, None), (QueueKey::MaxDepth, None)];
        let back = w.set(change(&back, "bob", limits(Some(5), None)), 6).await;
        assert_eq!((back.max_running, back.max_depth, back.revision), (Some(5), None, 3));
        assert!(back.overrides.is_empty());
        assert_eq!(w.take(5, at(7)).await.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn only_the_revision_that_was_meant_is_changed() {
    for_each_store(|w| async move {
        let off = (QueueKey::StuckAfter, Some(Setting::Off));
        let meant = |if_match| Overriding { if_match, ..change(&[off], "a", limits(None, None)) };
        for absent in [IfMatch::Exists, IfMatch::OneOf(vec![0])] {
            let refused = w.store().override_settings(meant(absent), at(1)).await.unwrap();
            assert_eq!(refused, Changed::OtherRevision);
            assert!(w.store().sample(at(1)).await.unwrap().queues.is_empty(), "nothing is there");
        }
        w.store().pause(name("q"), None, None, at(2)).await.unwrap();
        let stale = w.store().override_settings(meant(IfMatch::OneOf(vec![0])), at(3)).await;
        assert_eq!(stale.unwrap(), Changed::OtherRevision);
        assert!(w.state().await.overrides.is_empty());
        let set = w.set(meant(IfMatch::OneOf(vec![0, 1])), 4).await;
        assert_eq!(set.revision, 2);
        assert!(set.paused_at.is_some(), "the pause goes on");
        assert_eq!(w.set(meant(IfMatch::Exists), 5).await, set);
        let resumed = w.resume("q", at(6)).await;
        assert_eq!((resumed.revision, resumed.overrides), (3, set.overrides));
    })
    .await;
}

#[tokio::test]
async fn overrides_outlive_a_restart_and_lie_over_other_limits() {
    for_each_store(|mut w| async move {
        let all = [
            (QueueKey::MaxRunning, Some(Setting::Off)),
            (QueueKey::StartRate, Some(Setting::Real(0.25))),
            (QueueKey::Lease, Some(Setting::Span(Duration::from_millis(1_500)))),
            (QueueKey::RequireKey, Some(Setting::Switch(true))),
        ];
        let set = w.set(change(&all, "ann", limits(Some(1), Some(7))), 1).await;
        assert_eq!((set.max_running, set.max_depth), (None, Some(7)));
        w.crash(at(2));
        assert_eq!(w.state().await, set);
        w.store().set_limits(vec![limits(Some(3), Some(4))], at(3)).await.unwrap();
        let now = w.state().await;
        assert_eq!((now.max_running, now.max_depth), (None, Some(4)), "one of them is overridden");
        assert_eq!((now.revision, &now.overrides), (set.revision, &set.overrides));
    })
    .await;
}
