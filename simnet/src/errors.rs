//! Counts `error!` lines: in simulation each of them is a failure.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{self, Interest};
use tracing::{Event, Level, Metadata, Subscriber};

thread_local! {
    static ERRORS: Rc<Cell<u64>> = Rc::default();
}

/// Does something; returns how many errors it logged.
pub(crate) fn counted(what: impl FnOnce()) -> u64 {
    let count = ERRORS.with(Rc::clone);
    count.set(0);
    subscriber::with_default(Counter, what);
    count.get()
}

/// Takes only errors.
struct Counter;

impl Subscriber for Counter {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.enabled(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::ERROR && metadata.is_event()
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn event(&self, event: &Event<'_>) {
        ERRORS.with(|count| count.set(count.get() + 1));
        event.record(&mut Print);
    }

    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        Some(tracing::level_filters::LevelFilter::ERROR)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// Shows the error to whoever looks.
struct Print;

impl Visit for Print {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        eprintln!("error logged in simulation: {field}: {value:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_counted_and_warnings_are_not() {
        let count = counted(|| {
            tracing::error!("one");
            tracing::warn!("none");
            tracing::error!("two");
        });
        assert_eq!((count, counted(|| {})), (2, 0));
    }
}
