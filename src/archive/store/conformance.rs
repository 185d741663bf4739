//! Requirements on every store: one conformance suite that each kind runs, here and from outside.
//!
//! Invariants: it asks a store for everything that an archive relies on and for nothing else; it says
//! which demand failed.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::Store;
use crate::base::error::{Error, Kind, Result};

/// Number of threads that try to put the same name at once.
const AT_ONCE: u8 = 8;
/// About as large as an object gets.
const LARGE_BYTES: u32 = 6_000_000;

/// Puts an empty store to the test; the first demand that it fails is the error.
pub fn conforms(store: &dyn Store) -> Result<()> {
    let demand = |holds: bool, what: &str| match holds {
        true => Ok(()),
        false => Err(Error::failed(format!("testing {}", store.what()), what)),
    };
    let names = |folder: &str| -> Result<Vec<String>> {
        let listed = store.list(folder)?;
        Ok(listed.into_iter().map(|listed| listed.name).collect())
    };
    let is = |name: &str, expected: &[u8]| -> Result<bool> {
        Ok(store.get(name, 99)?.as_deref() == Some(expected))
    };
    demand(names("")?.is_empty(), "it is not empty")?;
    demand(store.get("a/none", 10)?.is_none(), "got what is not there")?;
    demand(
        store.head("a/none", 10)?.is_none(),
        "head of what is not there",
    )?;
    demand(!store.remove("a/none")?, "removed what is not there")?;

    let one = "a/b/one.zst";
    demand(store.put_new(one, b"first")?, "could not put")?;
    demand(!store.put_new(one, b"other")?, "put over")?;
    demand(is(one, b"first")?, "got something else")?;
    let limit = store.get(one, 4).map_err(|err| err.kind());
    demand(limit == Err(Kind::Damaged), "got more than was allowed")?;
    demand(store.get(one, 5)?.is_some(), "did not get what is allowed")?;
    let head = |name: &str, bytes: u64, expected: &[u8], size: u64| -> Result<bool> {
        Ok(store.head(name, bytes)? == Some((expected.to_vec(), size)))
    };
    demand(head(one, 2, b"fi", 5)?, "a short head")?;
    demand(head(one, 99, b"first", 5)?, "a long head")?;
    let range = |name: &str, start: u64, bytes: u64, expected: Option<&[u8]>| -> Result<bool> {
        Ok(store.get_range(name, start, bytes)?.as_deref() == expected)
    };
    demand(range(one, 0, 5, Some(b"first"))?, "a range that is all")?;
    demand(range(one, 1, 3, Some(b"irs"))?, "a range")?;
    demand(range(one, 3, 99, Some(b"st"))?, "a range to the end")?;
    demand(range(one, 5, 2, Some(b""))?, "a range beyond the end")?;
    demand(range("a/none", 1, 2, None)?, "a range of what is not there")?;
    store.replace(one, b"second")?;
    demand(is(one, b"second")?, "did not replace")?;
    store.replace("top.json", b"x")?;
    demand(is("top.json", b"x")?, "did not put by replacing")?;
    demand(store.put_new("empty", &[])?, "could not put nothing")?;
    demand(
        store.get("empty", 0)?.as_deref() == Some(b""),
        "got nothing wrongly",
    )?;
    demand(head("empty", 8, b"", 0)?, "the head of nothing")?;
    demand(range("empty", 0, 8, Some(b""))?, "a range of nothing")?;

    let large: Vec<u8> = (0..LARGE_BYTES).map(|n| (n % 251) as u8).collect();
    demand(store.put_new("a/large", &large)?, "could not put much")?;
    let got = store.get("a/large", u64::from(LARGE_BYTES))?;
    demand(got.as_ref() == Some(&large), "got much otherwise")?;
    let mut again = vec![7; 10];
    let found = store.get_into("a/large", u64::from(LARGE_BYTES), &mut again)?;
    demand(
        found && again == large,
        "got much otherwise the second time",
    )?;
    demand(
        store.get_into(one, 99, &mut again)?,
        "did not get into the same",
    )?;
    demand(again == b"second", "got something else into the same")?;
    demand(
        !store.get_into("a/none", 9, &mut again)?,
        "got what is not there",
    )?;

    // A name that only begins the same is in another folder.
    demand(store.put_new("ab/two", b"2")?, "could not put beside")?;
    demand(names("a")? == [one, "a/large"], "listed a folder otherwise")?;
    let all = [one, "a/large", "ab/two", "empty", "top.json"];
    demand(names("")? == all, "listed all otherwise")?;
    demand(names("none")?.is_empty(), "listed what is not there")?;
    for n in 0..25 {
        store.replace(&format!("many/{n:02}"), &[n])?;
    }
    let many = store.list("many")?;
    demand(many.len() == 25, "did not list many")?;
    demand(
        many.iter().all(|listed| listed.bytes == 1),
        "listed wrong sizes",
    )?;
    store.sync()?;
    demand(store.remove(one)?, "could not remove")?;
    demand(!store.remove(one)?, "removed twice")?;
    demand(store.get(one, 99)?.is_none(), "got what was removed")?;
    store.sync()?;

    // Of many at once, one gets the name, and what lies there is whole.
    for round in 0..20 {
        let name = format!("race/{round}");
        let won = AtomicUsize::new(0);
        let raced: Vec<Result<()>> = std::thread::scope(|scope| {
            let race = |n: u8| {
                let (won, name) = (&won, &name);
                move || -> Result<()> {
                    if store.put_new(name, &[n; 1000])? {
                        won.fetch_add(1, Ordering::SeqCst);
                    }
                    Ok(())
                }
            };
            let threads: Vec<_> = (0..AT_ONCE).map(|n| scope.spawn(race(n))).collect();
            let ended = threads.into_iter().map(|thread| {
                let lost = |_| Err(Error::failed("testing", "a thread ended"));
                thread.join().unwrap_or_else(lost)
            });
            ended.collect()
        });
        raced.into_iter().collect::<Result<Vec<()>>>()?;
        demand(won.load(Ordering::SeqCst) == 1, "not one got the name")?;
        let bytes = store.get(&name, 1000)?.unwrap_or_default();
        let whole = bytes.len() == 1000 && bytes.iter().all(|byte| Some(byte) == bytes.first());
        demand(whole, "what was put is not whole")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::memory::InMemory;

    use super::super::{Local, Remote};
    use super::*;

    #[test]
    fn a_folder() {
        let folder = tempfile::tempdir().unwrap();
        conforms(&Local::new(&folder.path().join("made/when needed"))).unwrap();
    }

    #[test]
    fn in_memory() {
        let remote = |prefix| Remote::new(Arc::new(InMemory::new()), prefix, "memory".into());
        conforms(&remote("some/prefix").unwrap()).unwrap();
        conforms(&remote("").unwrap()).unwrap();
    }

    #[test]
    fn a_store_that_does_not_conform_is_told() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("there"), "x").unwrap();
        let err = conforms(&Local::new(folder.path())).unwrap_err();
        assert!(err.why().contains("not empty"), "{err}");
    }
}
