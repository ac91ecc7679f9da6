//! The API's request and response bodies, shared by the server, the client and the worker.
//!
//! Responses carry `Deserialize` too, because our own client reads them; unknown members are
//! ignored there, so that an older client understands a newer server. Requests are read strictly
//! by the server (`http::body`), which names every unknown or wrong member at once; the structs
//! here are what it reads them *into* and what the client writes.
//!
//! Absent is not null: absent members are omitted. Moments are RFC 3339 UTC with milliseconds,
//! durations are seconds. Must not know: anything but serde and the domain's plain values.

mod jobs;
mod kinds;
mod operate;
mod problem;
mod schema;
mod watch;
mod work;

pub use jobs::*;
pub use kinds::*;
pub use operate::*;
pub use problem::*;
pub use watch::*;
pub use work::*;
