//! The router, with the description of each of its routes: there is no way in for one without.

use axum::Router;
use axum::handler::Handler;
use axum::http::Method;
use axum::routing::{MethodFilter, on};

use super::super::{Api, auth};
use super::operation::{Described, Operation};

type Describe = fn() -> Operation;

pub(in crate::http) struct Routes {
    router: Router<Api>,
    described: Vec<(&'static str, Method, Describe)>,
}

impl Routes {
    pub(in crate::http) fn new() -> Self {
        Self { router: Router::new(), described: Vec::new() }
    }

    /// A `GET`, and with it a `HEAD`.
    pub(in crate::http) fn get<T: 'static>(
        self,
        path: &'static str,
        handler: impl Handler<T, Api>,
        describe: Describe,
    ) -> Self {
        self.on(MethodFilter::GET, Method::GET, path, handler, describe)
    }

    pub(in crate::http) fn post<T: 'static>(
        self,
        path: &'static str,
        handler: impl Handler<T, Api>,
        describe: Describe,
    ) -> Self {
        self.on(MethodFilter::POST, Method::POST, path, handler, describe)
    }

    pub(in crate::http) fn patch<T: 'static>(
        self,
        path: &'static str,
        handler: impl Handler<T, Api>,
        describe: Describe,
    ) -> Self {
        self.on(MethodFilter::PATCH, Method::PATCH, path, handler, describe)
    }

    pub(in crate::http) fn delete<T: 'static>(
        self,
        path: &'static str,
        handler: impl Handler<T, Api>,
        describe: Describe,
    ) -> Self {
        self.on(MethodFilter::DELETE, Method::DELETE, path, handler, describe)
    }

    fn on<T: 'static>(
        mut self,
        filter: MethodFilter,
        method: Method,
        path: &'static str,
        handler: impl Handler<T, Api>,
        describe: Describe,
    ) -> Self {
        self.router = self.router.route(path, on(filter, handler));
        self.described.push((path, method, describe));
        self
    }

    pub(in crate::http) fn router(self) -> Router<Api> {
        self.router
    }

    pub(super) fn described(self) -> Vec<Described> {
        let described = self.described.into_iter();
        described
            .map(|(path, method, describe)| {
                let needs = auth::needed(&method, path);
                Described { path, method, needs, operation: describe() }
            })
            .collect()
    }
}
