//! What a caller may rely on, without a fault in sight.

use std::collections::BTreeMap;
use std::fs;

use proptest::prelude::*;
use redb::backends::InMemoryBackend;

use super::*;

fn memory() -> State {
    State::open_backend(InMemoryBackend::new()).unwrap()
}

fn put(table: Table, key: &str, value: &str) -> Change {
    Change::Put { table, key: key.into(), value: value.into() }
}

fn delete(table: Table, key: &str) -> Change {
    Change::Delete { table, key: key.into() }
}

fn keys(rows: Vec<Row>) -> Vec<String> {
    rows.into_iter().map(|row| String::from_utf8(row.key).unwrap()).collect()
}

#[test]
fn a_record_is_what_was_last_put() {
    let state = memory();
    state.apply(&[put(Table::Jobs, "a", "1"), put(Table::Jobs, "b", "2"), put(Table::Held, "a", "other")]).unwrap();
    state.apply(&[put(Table::Jobs, "a", "3"), delete(Table::Jobs, "b"), delete(Table::Jobs, "never")]).unwrap();
    assert_eq!(state.get(Table::Jobs, b"a").unwrap(), Some(b"3".to_vec()));
    assert_eq!(state.get(Table::Jobs, b"b").unwrap(), None);
    assert_eq!(state.get(Table::Held, b"a").unwrap(), Some(b"other".to_vec()));
    assert_eq!(state.count(Table::Jobs).unwrap(), 1);
    assert_eq!(state.count(Table::Events).unwrap(), 0);
}

#[test]
fn changes_of_one_call_are_made_in_order() {
    let state = memory();
    state.apply(&[put(Table::Meta, "k", "1"), delete(Table::Meta, "k"), put(Table::Meta, "k", "2")]).unwrap();
    assert_eq!(state.get(Table::Meta, b"k").unwrap(), Some(b"2".to_vec()));
}

#[test]
fn a_file_of_an_earlier_build_gets_the_tables_that_it_lacks() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    State::open(&path).unwrap().apply(&[put(Table::Peers, "p", "address")]).unwrap();
    let db = Database::open(&path).unwrap();
    let transaction = db.begin_write().unwrap();
    assert!(transaction.delete_table(Table::Sources.rows()).unwrap());
    transaction.commit().unwrap();
    drop(db);
    let state = State::open(&path).unwrap();
    assert_eq!(state.count(Table::Sources).unwrap(), 0);
    assert_eq!(state.get(Table::Peers, b"p").unwrap(), Some(b"address".to_vec()));
}

#[test]
fn records_are_there_after_the_file_is_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    State::open(&path).unwrap().apply(&[put(Table::Peers, "p", "address")]).unwrap();
    let state = State::open(&path).unwrap();
    assert_eq!(state.get(Table::Peers, b"p").unwrap(), Some(b"address".to_vec()));
}

#[test]
fn a_file_whose_making_was_cut_off_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    fs::write(dir.path().join("state.new"), vec![0; 70_000]).unwrap();
    State::open(&path).unwrap().apply(&[put(Table::Meta, "k", "v")]).unwrap();
    assert_eq!(State::open(&path).unwrap().count(Table::Meta).unwrap(), 1);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing but the records is left behind");
}

#[test]
fn a_new_file_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    let _state = State::open(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_file_in_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    let _state = State::open(&path).unwrap();
    assert!(matches!(State::open(&path), Err(StateError::InUse { .. })));
}

#[test]
fn a_newer_file_is_refused_and_says_which() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    drop(State::open(&path).unwrap());
    let db = Database::create(&path).unwrap();
    let transaction = db.begin_write().unwrap();
    transaction.open_table(SCHEMA).unwrap().insert(SCHEMA_KEY, SCHEMA_VERSION + 6).unwrap();
    transaction.commit().unwrap();
    drop(db);
    let error = State::open(&path).unwrap_err();
    assert!(matches!(error, StateError::Newer { found: 7, .. }), "{error}");
    assert!(error.to_string().contains("newer shoal"), "{error}");
}

#[test]
fn a_file_of_something_else_is_refused_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    for content in [b"hello".to_vec(), vec![0; 4096], vec![0xff; 100_000], b"redb\x1A\x0A\xA9\x0D\x0A".to_vec()] {
        fs::write(&path, &content).unwrap();
        let error = State::open(&path).unwrap_err();
        assert!(matches!(error, StateError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains("state.redb"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), content);
    }
}

#[test]
fn a_file_cut_short_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    let state = State::open(&path).unwrap();
    state.apply(&[put(Table::Jobs, "a", &"x".repeat(100_000))]).unwrap();
    drop(state);
    let whole = fs::read(&path).unwrap();
    for length in [whole.len() / 2, 4096, 600, 320, 10] {
        fs::write(&path, &whole[..length]).unwrap();
        assert!(matches!(State::open(&path), Err(StateError::Damaged { .. })), "cut to {length}");
    }
}

#[test]
fn a_record_beyond_the_bound_changes_nothing() {
    let state = memory();
    let large = Change::Put { table: Table::Jobs, key: b"b".to_vec(), value: vec![0; MAX_VALUE_BYTES + 1] };
    let error = state.apply(&[put(Table::Jobs, "a", "1"), large]).unwrap_err();
    assert!(matches!(error, StateError::TooLarge { .. }));
    assert_eq!(state.count(Table::Jobs).unwrap(), 0);
}

#[test]
fn pages_follow_each_other_in_both_directions() {
    let state = memory();
    let changes: Vec<_> = ["a/1", "b/1", "b/2", "b/3", "b/4", "c/1"].map(|key| put(Table::Events, key, "")).into();
    state.apply(&changes).unwrap();
    let page = |after: Option<&str>, order| {
        keys(state.scan_prefix(Table::Events, b"b/", after.map(str::as_bytes), 2, order).unwrap())
    };
    assert_eq!(page(None, Order::Ascending), ["b/1", "b/2"]);
    assert_eq!(page(Some("b/2"), Order::Ascending), ["b/3", "b/4"]);
    assert_eq!(page(Some("b/4"), Order::Ascending), [""; 0]);
    assert_eq!(page(None, Order::Descending), ["b/4", "b/3"]);
    assert_eq!(page(Some("b/3"), Order::Descending), ["b/2", "b/1"]);
    assert_eq!(page(Some("b/1"), Order::Descending), [""; 0]);
    assert_eq!(keys(state.scan(Table::Events).unwrap()).len(), 6);
}

fn small_key() -> impl Strategy<Value = Vec<u8>> {
    // Few different bytes, so that keys share prefixes; 0xff has no successor.
    prop::collection::vec(prop::sample::select(vec![0, 1, 0xfe, 0xff]), 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_scan_is_what_a_filter_of_all_records_would_be(
        all in prop::collection::btree_set(small_key(), 0..30),
        prefix in small_key(),
        after in prop::option::of(small_key()),
        limit in 0usize..10,
        descending: bool,
    ) {
        let state = memory();
        let changes: Vec<_> = all
            .iter()
            .map(|key| Change::Put { table: Table::Events, key: key.clone(), value: key.clone() })
            .collect();
        state.apply(&changes).unwrap();
        let order = if descending { Order::Descending } else { Order::Ascending };

        let mut expected: Vec<_> = all.iter().filter(|key| key.starts_with(&prefix)).cloned().collect();
        if descending {
            expected.reverse();
        }
        if let Some(after) = &after {
            expected.retain(|key| if descending { key < after } else { key > after });
        }
        expected.truncate(limit);

        let found = state.scan_prefix(Table::Events, &prefix, after.as_deref(), limit, order).unwrap();
        prop_assert_eq!(found.into_iter().map(|row| row.key).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn tables_are_maps_that_do_not_touch_each_other(
        steps in prop::collection::vec(
            prop::collection::vec((0..Table::ALL.len(), small_key(), prop::option::of(any::<u8>())), 0..6),
            0..8,
        ),
    ) {
        let state = memory();
        let mut model: BTreeMap<(Table, Vec<u8>), Vec<u8>> = BTreeMap::new();
        for step in steps {
            let changes: Vec<_> = step.into_iter().map(|(table, key, value)| change(Table::ALL[table], key, value)).collect();
            state.apply(&changes).unwrap();
            changes.iter().for_each(|change| track(&mut model, change));
        }
        prop_assert_eq!(everything(&state), model);
    }
}

/// Puts a value or, for none, deletes.
pub(super) fn change(table: Table, key: Vec<u8>, value: Option<u8>) -> Change {
    match value {
        // Sizes from nothing to several pages.
        Some(size) => Change::Put { table, key, value: vec![size; usize::from(size) * 64] },
        None => Change::Delete { table, key },
    }
}

pub(super) type Model = BTreeMap<(Table, Vec<u8>), Vec<u8>>;

/// What a change does, said in one line.
pub(super) fn track(model: &mut Model, change: &Change) {
    match change.clone() {
        Change::Put { table, key, value } => model.insert((table, key), value),
        Change::Delete { table, key } => model.remove(&(table, key)),
    };
}

pub(super) fn everything(state: &State) -> Model {
    let rows = |table| state.scan(table).unwrap().into_iter().map(move |row| ((table, row.key), row.value));
    Table::ALL.into_iter().flat_map(rows).collect()
}
