//! How arguments and results of components' calls go into the record of calls.

use wasmtime::component::Resource;

use super::types::{Advice, Datetime, DescriptorType, DirectoryEntry, ErrorCode, MetadataHash, NewTimestamp, Stat};
use super::types::{DescriptorFlags, OpenFlags, PathFlags};
use crate::wasi::calls::Calls;

/// Something that can be recorded.
pub(super) trait Recorded {
    fn record(&self, calls: &mut Calls);
}

macro_rules! numbers {
    ($($kind:ty: |$value:ident| $number:expr),* $(,)?) => {
        $(impl Recorded for $kind {
            fn record(&self, calls: &mut Calls) {
                let $value = self;
                calls.number($number);
            }
        })*
    };
}

numbers! {
    u8: |value| u64::from(*value),
    u32: |value| u64::from(*value),
    u64: |value| *value,
    bool: |value| u64::from(*value),
    Advice: |value| *value as u64,
    DescriptorType: |value| *value as u64,
    ErrorCode: |value| *value as u64,
    DescriptorFlags: |value| value.as_array().first().map_or(0, |bits| u64::from(*bits)),
    OpenFlags: |value| value.as_array().first().map_or(0, |bits| u64::from(*bits)),
    PathFlags: |value| value.as_array().first().map_or(0, |bits| u64::from(*bits)),
}

impl<R> Recorded for Resource<R> {
    fn record(&self, calls: &mut Calls) {
        calls.number(self.rep().into());
    }
}

impl Recorded for String {
    fn record(&self, calls: &mut Calls) {
        calls.moved(self.as_bytes());
    }
}

impl Recorded for Vec<u8> {
    fn record(&self, calls: &mut Calls) {
        calls.moved(self);
    }
}

/// Lists of anything but bytes.
macro_rules! lists {
    ($($kind:ty),*) => {
        $(impl Recorded for Vec<$kind> {
            fn record(&self, calls: &mut Calls) {
                calls.number(self.len() as u64);
                self.iter().for_each(|item| item.record(calls));
            }
        })*
    };
}

lists!(u32, String, (String, String), (Resource<super::types::Descriptor>, String), Resource<super::types::Pollable>);

impl<R: Recorded> Recorded for Option<R> {
    fn record(&self, calls: &mut Calls) {
        calls.number(self.is_some().into());
        self.iter().for_each(|value| value.record(calls));
    }
}

impl Recorded for Datetime {
    fn record(&self, calls: &mut Calls) {
        (self.seconds, self.nanoseconds).record(calls);
    }
}

impl Recorded for NewTimestamp {
    fn record(&self, calls: &mut Calls) {
        match self {
            NewTimestamp::NoChange => 0_u64.record(calls),
            NewTimestamp::Now => 1_u64.record(calls),
            NewTimestamp::Timestamp(time) => (2_u64, *time).record(calls),
        }
    }
}

impl Recorded for Stat {
    fn record(&self, calls: &mut Calls) {
        (self.kind, self.link_count, self.size).record(calls);
        (self.data_access, self.data_modification, self.status_change).record(calls);
    }
}

impl Recorded for DirectoryEntry {
    fn record(&self, calls: &mut Calls) {
        self.kind.record(calls);
        self.name.record(calls);
    }
}

impl Recorded for MetadataHash {
    fn record(&self, calls: &mut Calls) {
        (self.lower, self.upper).record(calls);
    }
}

impl Recorded for () {
    fn record(&self, _: &mut Calls) {}
}

macro_rules! tuples {
    ($(($($name:ident)+))*) => {
        $(impl<$($name: Recorded),+> Recorded for ($($name,)+) {
            #[expect(non_snake_case, reason = "one name for a type and its value")]
            fn record(&self, calls: &mut Calls) {
                let ($($name,)+) = self;
                $($name.record(calls);)+
            }
        })*
    };
}

tuples! { (A) (A B) (A B C) (A B C D) (A B C D E) }
