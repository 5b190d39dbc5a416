//! The least that layers can stand on: events go to them, and there are no spans.
//!
//! tracing-subscriber's registry keeps a table for the spans of 4,096 threads (32 KiB that are written at once); nothing here
//! opens a span.
#![forbid(unsafe_code)]

use std::convert::Infallible;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::registry::{Extensions, ExtensionsMut, LookupSpan, SpanData};

/// A subscriber that does nothing by itself.
#[derive(Debug)]
pub struct Spanless;

impl Subscriber for Spanless {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

impl LookupSpan<'_> for Spanless {
    type Data = NoSpan;

    fn span_data(&self, _: &Id) -> Option<NoSpan> {
        None
    }
}

/// The data of a span, of which there is none.
#[derive(Debug)]
pub struct NoSpan(Infallible);

impl SpanData<'_> for NoSpan {
    fn id(&self) -> Id {
        match self.0 {}
    }

    fn metadata(&self) -> &'static Metadata<'static> {
        match self.0 {}
    }

    fn parent(&self) -> Option<&Id> {
        match self.0 {}
    }

    fn extensions(&self) -> Extensions<'_> {
        match self.0 {}
    }

    fn extensions_mut(&self) -> ExtensionsMut<'_> {
        match self.0 {}
    }
}
