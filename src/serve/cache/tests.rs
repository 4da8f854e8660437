//! Each rule of the protocol, with the race that it is there for.

use super::*;
use crate::domain::Generation;
use crate::serve::json::RowShape;
use crate::serve::table::tests::table;

/// A cache, and a table that stands at publish 3 of generation 7.
fn standing() -> (Cache, PublishedTable) {
    let (cache, table) = (Cache::new(1 << 20), table(1, "orders"));
    advance(&cache, &table, Changed::All);
    (cache, table)
}

/// The table after further publishes.
fn later(publish_no: i64) -> PublishedTable {
    let mut table = table(2, "orders");
    table.publish_no = publish_no;
    table
}

fn key(number: i64) -> Key {
    Key::parse(&table(1, "orders").key, &[number.to_string()]).unwrap()
}

fn row() -> Kept {
    Some(Arc::new(RowShape::new([]).write(std::iter::empty()).unwrap()))
}

fn keep(cache: &Cache, table: &PublishedTable, number: i64) {
    cache.keep(table, [(&key(number), row())].into_iter());
}

fn has(cache: &Cache, table: &PublishedTable, number: i64) -> bool {
    matches!(cache.look(table, &key(number)), Look::Kept(_))
}

fn keys(since: i64, changed: &[i64]) -> Changed {
    Changed::Keys { since, hashes: changed.iter().map(|number| key(*number).hash()).collect() }
}

fn advance(cache: &Cache, table: &PublishedTable, changed: Changed) {
    cache.advance(Instant::now(), [(table, changed)].into_iter());
}

#[test]
fn rows_and_misses_are_kept() {
    let (cache, table) = standing();
    cache.keep(&table, [(&key(1), row()), (&key(2), None)].into_iter());
    assert!(matches!(cache.look(&table, &key(1)), Look::Kept(Some(_))));
    assert!(matches!(cache.look(&table, &key(2)), Look::Kept(None)));
    assert!(matches!(cache.look(&table, &key(3)), Look::Ask { heard: 3 }));
}

#[test]
fn a_the_table_moves_on_together_with_dropping_the_keys_that_changed() {
    let (cache, table) = standing();
    (1..=4).for_each(|number| keep(&cache, &table, number));
    let next = later(5);
    advance(&cache, &next, keys(3, &[2, 4, 99]));
    assert_eq!([1, 2, 3, 4].map(|number| has(&cache, &next, number)), [true, false, true, false]);
    // The state before is no longer what is kept.
    assert!(!has(&cache, &table, 1));
}

#[test]
fn a_where_the_changed_keys_are_not_known_everything_goes() {
    let mut other = later(4);
    other.generation = Generation(8);
    // The list begins elsewhere than where the cache stands; a publish before the one that it stands at.
    for (next, changed) in
        [(later(4), Changed::All), (later(5), keys(4, &[])), (other, keys(3, &[])), (later(2), keys(3, &[]))]
    {
        let (cache, table) = standing();
        keep(&cache, &table, 1);
        advance(&cache, &next, changed.clone());
        assert!(!has(&cache, &next, 1), "{changed:?}");
        keep(&cache, &next, 1);
        assert!(has(&cache, &next, 1), "{changed:?}");
    }
}

#[test]
fn a_another_look_without_a_publish_drops_nothing() {
    let (cache, table) = standing();
    keep(&cache, &table, 1);
    advance(&cache, &later(3), Changed::All);
    assert!(has(&cache, &later(3), 1));
}

#[test]
fn b_what_was_read_before_a_publish_is_not_kept_after_it() {
    let (cache, table) = standing();
    // Key 1 is read at publish 3; before it is kept, publish 4 changes it.
    let next = later(4);
    advance(&cache, &next, keys(3, &[1]));
    keep(&cache, &table, 1);
    assert!(!has(&cache, &next, 1));
    // And what was read at publish 4 before the cache has heard of it.
    let after = later(5);
    keep(&cache, &after, 1);
    advance(&cache, &after, keys(4, &[]));
    assert!(!has(&cache, &after, 1));
}

#[test]
fn c_nothing_is_handed_out_once_a_later_publish_has_been_heard_of() {
    for hear in [
        |cache: &Cache, _: &PublishedTable| cache.announced("orders", 4),
        |cache: &Cache, table: &_| {
            cache.answered(table, 4, 7, Instant::now());
        },
    ] {
        let (cache, table) = standing();
        keep(&cache, &table, 1);
        hear(&cache, &table);
        assert!(matches!(cache.look(&table, &key(1)), Look::Ask { heard: 4 }));
        assert_eq!(cache.heard(&table), 4);
        // What has not changed is there again once the cache stands at it.
        advance(&cache, &later(4), keys(3, &[]));
        assert!(has(&cache, &later(4), 1));
    }
}

#[test]
fn c_a_lookup_may_know_of_a_publish_that_the_look_at_the_tables_does_not() {
    let (cache, table) = standing();
    keep(&cache, &table, 1);
    // While the tables are looked at, where the table stands at 4, a lookup is answered at 5.
    cache.answered(&table, 5, 7, Instant::now());
    advance(&cache, &later(4), keys(3, &[]));
    assert!(!has(&cache, &later(4), 1));
    advance(&cache, &later(5), keys(4, &[]));
    assert!(has(&cache, &later(5), 1));
}

#[test]
fn c_a_rollback_that_a_lookup_told_of_is_heard() {
    let (cache, table) = standing();
    keep(&cache, &table, 1);
    cache.answered(&table, 4, table.generation.0 - 1, Instant::now());
    assert!(!has(&cache, &table, 1));
    assert_eq!(cache.heard(&table), 4);
}

#[test]
fn c_a_publish_that_is_lost_is_forgotten_in_time() {
    let (cache, table) = standing();
    keep(&cache, &table, 1);
    let told = Instant::now();
    cache.answered(&table, 4, 7, told);
    for (later, lost) in [(Duration::from_secs(9), false), (Duration::from_secs(11), true)] {
        cache.advance(told + later, [(&table, Changed::All)].into_iter());
        assert_eq!(has(&cache, &table, 1), lost, "{later:?}");
    }
}

#[test]
fn c_all_keys_of_a_batch_are_looked_up_at_one_moment() {
    let (cache, table) = standing();
    [1, 2].iter().for_each(|number| keep(&cache, &table, *number));
    let kept = |looks: Vec<Look>| looks.iter().filter(|look| matches!(look, Look::Kept(_))).count();
    let asked = [key(1), key(2), key(3)];
    assert_eq!(kept(cache.look_all(&table, &asked)), 2);
    cache.announced("orders", 4);
    assert_eq!(kept(cache.look_all(&table, &asked)), 0);
}

#[test]
fn a_table_that_ended_and_came_again_begins_anew() {
    let (cache, table) = standing();
    keep(&cache, &table, 1);
    cache.announced("orders", 0);
    assert!(!has(&cache, &table, 1));
    cache.advance(Instant::now(), std::iter::empty());
    assert!(!has(&cache, &table, 1));
    // Its numbers begin anew, and a late word of the old table's does not stand in its way for long.
    let mut again = later(1);
    again.generation = Generation(9);
    advance(&cache, &again, Changed::All);
    cache.announced("orders", 3);
    advance(&cache, &again, Changed::All);
    keep(&cache, &again, 1);
    assert!(has(&cache, &again, 1));
    cache.answered(&table, 50, 7, Instant::now());
    assert!(has(&cache, &again, 1));
}

#[test]
fn f_keys_that_are_one_value_are_one_key_and_a_hash_is_not_a_key() {
    let (cache, table) = standing();
    keep(&cache, &table, 7);
    let spelled = Key::parse(&table.key, &["+007"]).unwrap();
    assert!(matches!(cache.look(&table, &spelled), Look::Kept(_)));
    // Another key whose hash is the same.
    let state = cache.read();
    assert!(matches!(state.look(&table, &key(8), key(7).hash()), Look::Ask { .. }));
}

#[test]
fn the_bytes_are_bounded() {
    let cache = Cache::new(64 << 10);
    let table = table(1, "orders");
    advance(&cache, &table, Changed::All);
    (0..2000).for_each(|number| keep(&cache, &table, number));
    let state = cache.read();
    let rows = state.rows.as_ref().unwrap();
    assert!(rows.weight() <= 64 << 10 && rows.len() > 100, "{} bytes, {} rows", rows.weight(), rows.len());
}

#[test]
fn a_cache_of_no_bytes_keeps_nothing_and_hears_all_the_same() {
    let (cache, table) = (Cache::new(0), table(1, "orders"));
    advance(&cache, &table, Changed::All);
    keep(&cache, &table, 1);
    cache.announced("orders", 4);
    assert!(matches!(cache.look(&table, &key(1)), Look::Ask { heard: 4 }));
}
