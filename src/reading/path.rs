//! The path of a field in a record, and finding all of a format's fields in one walk over a parsed record.
//!
//! A path consists of names, separated by dots, and array indexes: `wind.speed`, `obs[0][7]`. All paths of a format are
//! merged into one [`Tree`], so that every key of a record is looked up only once. `[]` in a path stands for every element
//! of an array ([`Spot`]): one tree finds the array, another is walked at each element.
//!
//! Invariant: the walk goes no deeper than the longest path, however deeply a record nests.

use std::fmt;

use simd_json::Node;

/// Maximum length of a path; longer ones are refused.
const MAX_STEPS: usize = 16;
/// Longer keys than this share one group in a branch's index.
const MAX_INDEXED: usize = 32;

/// The path of a field, such as `main.temp` or `obs[0][7]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path(Vec<PathStep>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum PathStep {
    Key(String),
    Place(usize),
}

/// A path, and the array whose elements it is relative to, if it was written with `[]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spot {
    /// Where the array of readings is in the record; an empty path is the record itself.
    pub(super) list: Option<Path>,
    /// Where the field is, in the record or in the element.
    pub(super) path: Path,
}

impl Spot {
    /// Reads a path as users write it; `\.` and `\[` stand for a dot and a bracket within a name.
    pub(super) fn from_text(text: &str) -> Option<Self> {
        let mut list: Option<Vec<PathStep>> = None;
        let mut steps = Vec::new();
        let mut key = String::new();
        let mut rest = text.chars();
        let ends_key = |key: &mut String, steps: &mut Vec<PathStep>| {
            if !key.is_empty() {
                steps.push(PathStep::Key(std::mem::take(key)));
            }
        };
        while let Some(c) = rest.next() {
            let is_behind_bracket = match steps.last() {
                Some(step) => matches!(step, PathStep::Place(_)),
                None => list.is_some(),
            };
            match c {
                '\\' => key.push(rest.next()?),
                '.' if key.is_empty() && !is_behind_bracket => return None,
                '.' => ends_key(&mut key, &mut steps),
                '[' => {
                    ends_key(&mut key, &mut steps);
                    let (place, after) = rest.as_str().split_once(']')?;
                    if place.is_empty() && list.is_none() {
                        list = Some(std::mem::take(&mut steps));
                    } else {
                        steps.push(PathStep::Place(place.parse().ok().filter(|place| *place < 10_000)?));
                    }
                    rest = after.chars();
                }
                c => key.push(c),
            }
        }
        let ends_in_dot = text.ends_with('.') && key.is_empty();
        ends_key(&mut key, &mut steps);
        let is_path =
            |steps: &[PathStep]| matches!(steps.first(), Some(PathStep::Key(_))) && steps.len() <= MAX_STEPS;
        let is_right = match &list {
            None => is_path(&steps),
            Some(list) => (list.is_empty() || is_path(list)) && !steps.is_empty() && steps.len() <= MAX_STEPS,
        };
        (is_right && !ends_in_dot).then_some(Self { list: list.map(Path), path: Path(steps) })
    }
}

impl Path {
    /// Reads a path without `[]`.
    pub(super) fn from_text(text: &str) -> Option<Self> {
        Spot::from_text(text).filter(|spot| spot.list.is_none()).map(|spot| spot.path)
    }

    /// Whether the path is the record itself.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The whole path as one key: some flatten records into names with dots. `None` if it is one key already.
    pub(super) fn flattened(&self) -> Option<Self> {
        let keys: Option<Vec<&str>> = self
            .0
            .iter()
            .map(|step| match step {
                PathStep::Key(key) => Some(key.as_str()),
                PathStep::Place(_) => None,
            })
            .collect();
        keys.filter(|keys| keys.len() > 1).map(|keys| Self(vec![PathStep::Key(keys.join("."))]))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.0.iter().enumerate() {
            match step {
                PathStep::Key(key) => {
                    let dot = if index == 0 { "" } else { "." };
                    write!(f, "{dot}{}", key.replace('\\', "\\\\").replace('.', "\\.").replace('[', "\\["))?;
                }
                PathStep::Place(place) => write!(f, "[{place}]")?,
            }
        }
        Ok(())
    }
}

/// A path's number in a [`Tree`].
pub(super) type Slot = u16;

/// In [`FieldNodes`]: the record has no such field. (Place 0 of a record is the object itself.)
pub(super) const ABSENT: u32 = 0;

/// Where in the parsed record the field of each slot is: the index of its node, or [`ABSENT`].
pub(super) type FieldNodes = Vec<u32>;

/// All paths of a format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tree {
    /// The first is the root.
    branches: Vec<Branch>,
    slots: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Branch {
    /// By length, then by text.
    keys: Vec<(Box<[u8]>, KeyTarget)>,
    /// The first bytes of each key, which distinguish most keys of one length.
    beginnings: Vec<u64>,
    /// Where in `keys` those of each length begin.
    starts: Vec<u16>,
    places: Vec<(usize, KeyTarget)>,
}

/// What a key leads to: a slot, more keys, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct KeyTarget {
    slot: Option<Slot>,
    branch: Option<u16>,
}

impl Tree {
    pub(super) fn new() -> Self {
        Self { branches: vec![Branch::default()], slots: 0 }
    }

    pub(super) fn slots(&self) -> usize {
        self.slots
    }

    /// The slot of a path; a new one unless it is there already.
    pub(super) fn add(&mut self, path: &Path) -> Slot {
        let slot = Slot::try_from(self.slots).unwrap_or(Slot::MAX);
        let slot = self.add_as(path, slot);
        self.slots = self.slots.max(usize::from(slot) + 1);
        slot
    }

    /// A slot that no path of this tree leads to, for a field that is looked for elsewhere.
    pub(super) fn add_slot(&mut self) -> Slot {
        self.slots += 1;
        Slot::try_from(self.slots - 1).unwrap_or(Slot::MAX)
    }

    /// Makes a path an alias of another's slot, unless it has one already.
    pub(super) fn add_as(&mut self, path: &Path, slot: Slot) -> Slot {
        let Some((last, before)) = path.0.split_last() else { return slot };
        let mut at = 0;
        for step in before {
            let next = u16::try_from(self.branches.len()).unwrap_or(u16::MAX);
            let target = self.branches[at].target(step);
            let branch = *target.branch.get_or_insert(next);
            if branch == next {
                self.branches.push(Branch::default());
            }
            at = usize::from(branch);
        }
        *self.branches[at].target(last).slot.get_or_insert(slot)
    }

    /// Prepares the look-up; call it after all paths were added.
    pub(super) fn index(&mut self) {
        for branch in &mut self.branches {
            branch.keys.sort_by(|(a, _), (b, _)| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
            let start = |length| branch.keys.partition_point(|(key, _)| key.len().min(MAX_INDEXED) < length);
            branch.beginnings = branch.keys.iter().map(|(key, _)| beginning(key)).collect();
            branch.starts = (0..=MAX_INDEXED + 1).map(|length| start(length) as u16).collect();
        }
    }

    /// Looks for every path below the object or array at `root`. `found` must be [`ABSENT`] throughout.
    pub(super) fn find(&self, tape: &[Node<'_>], root: usize, found: &mut FieldNodes) {
        self.walk(tape, root, &self.branches[0], found);
    }

    fn walk(&self, tape: &[Node<'_>], at: usize, branch: &Branch, found: &mut FieldNodes) {
        match tape.get(at) {
            Some(Node::Object { len, .. }) => {
                let mut next = at + 1;
                for _ in 0..*len {
                    let (Some(Node::String(key)), Some(value)) = (tape.get(next), tape.get(next + 1)) else {
                        return;
                    };
                    if let Some(target) = branch.key(key.as_bytes()) {
                        self.take(tape, next + 1, target, found);
                    }
                    next += 2 + parts(value);
                }
            }
            Some(Node::Array { len, .. }) if !branch.places.is_empty() => {
                let mut next = at + 1;
                for place in 0..*len {
                    let Some(value) = tape.get(next) else { return };
                    if let Some((_, target)) = branch.places.iter().find(|(wanted, _)| *wanted == place) {
                        self.take(tape, next, *target, found);
                    }
                    next += 1 + parts(value);
                }
            }
            _ => {}
        }
    }

    fn take(&self, tape: &[Node<'_>], at: usize, target: KeyTarget, found: &mut FieldNodes) {
        if let Some(place) = target.slot.and_then(|slot| found.get_mut(usize::from(slot))) {
            // If a key occurs twice, the last counts.
            *place = u32::try_from(at).unwrap_or(ABSENT);
        }
        if let Some(branch) = target.branch.and_then(|branch| self.branches.get(usize::from(branch))) {
            self.clear(branch, found);
            self.walk(tape, at, branch, found);
        }
    }

    /// Discards what was found below the first of two equal keys.
    fn clear(&self, branch: &Branch, found: &mut FieldNodes) {
        let keys = branch.keys.iter().map(|(_, target)| target);
        for target in keys.chain(branch.places.iter().map(|(_, target)| target)) {
            if let Some(place) = target.slot.and_then(|slot| found.get_mut(usize::from(slot))) {
                *place = ABSENT;
            }
            if let Some(branch) = target.branch.and_then(|branch| self.branches.get(usize::from(branch))) {
                self.clear(branch, found);
            }
        }
    }
}

/// The first eight bytes, as a number.
fn beginning(key: &[u8]) -> u64 {
    match key.first_chunk::<8>() {
        Some(bytes) => u64::from_le_bytes(*bytes),
        None => key.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)),
    }
}

/// How many nodes are inside a value.
pub(super) fn parts(value: &Node<'_>) -> usize {
    match value {
        Node::Object { count, .. } | Node::Array { count, .. } => *count,
        _ => 0,
    }
}

impl Branch {
    fn key(&self, key: &[u8]) -> Option<KeyTarget> {
        let length = key.len().min(MAX_INDEXED);
        let (from, to) = (*self.starts.get(length)?, *self.starts.get(length + 1)?);
        let candidates = usize::from(from)..usize::from(to);
        let (keys, beginnings) = (self.keys.get(candidates.clone())?, self.beginnings.get(candidates)?);
        let begins = beginning(key);
        let mut alike = keys.iter().zip(beginnings).filter(|(_, with)| **with == begins);
        alike.find(|((name, _), _)| **name == *key).map(|((_, target), _)| *target)
    }

    fn target(&mut self, step: &PathStep) -> &mut KeyTarget {
        match step {
            PathStep::Key(key) => {
                let key = key.as_bytes();
                let known = self.keys.iter().position(|(name, _)| **name == *key);
                let at = known.unwrap_or_else(|| {
                    self.keys.push((key.into(), KeyTarget::default()));
                    self.keys.len() - 1
                });
                &mut self.keys[at].1
            }
            PathStep::Place(place) => {
                let known = self.places.iter().position(|(wanted, _)| wanted == place);
                let at = known.unwrap_or_else(|| {
                    self.places.push((*place, KeyTarget::default()));
                    self.places.len() - 1
                });
                &mut self.places[at].1
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_as_users_write_them() {
        for text in ["a", "a.b.c", "obs[0][7]", "list[2].main.temp", "Date\\.Full", "wind speed", "a\\[0]"] {
            let path = Path::from_text(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(path.to_string(), text);
        }
        for text in ["", ".", "a.", ".a", "a..b", "[0]", "a[", "a[x]", "a[-1]", "a[]", "\\", &"a.".repeat(20)]
        {
            assert_eq!(Path::from_text(text), None, "{text}");
        }
        for (text, list, path) in [("[].a", "", "a"), ("a.b[].c[0]", "a.b", "c[0]"), ("a[][7]", "a", "[7]")] {
            let spot = Spot::from_text(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!((spot.list.unwrap().to_string(), spot.path.to_string()), (list.into(), path.into()));
        }
        for text in ["[]", "a[]", "a[].", "a[][]", "a[].b[]", "[0][].a"] {
            assert_eq!(Spot::from_text(text), None, "{text}");
        }
        let flat = |text| Path::from_text(text).unwrap().flattened().map(|path| path.to_string());
        assert_eq!(flat("a.b"), Some("a\\.b".to_owned()));
        assert_eq!((flat("a"), flat("a[0]")), (None, None));
    }

    #[test]
    fn all_paths_are_found_in_one_walk() {
        let paths =
            ["a", "b.c", "b", "d[1]", "d[0].e", "b.c.x", "z", "long_long_long_long_long_long_long_key"];
        let mut tree = Tree::new();
        let slots: Vec<Slot> = paths.iter().map(|text| tree.add(&Path::from_text(text).unwrap())).collect();
        assert_eq!(slots, (0..8).collect::<Vec<Slot>>());
        assert_eq!(tree.add(&Path::from_text("b.c").unwrap()), 1);
        tree.index();
        let mut value = br#"{"a":[1,2],"b":{"c":{"x":1}},"b":{"q":{"c":9},"c":7},"d":[{"e":5},6],"c":3,"a":8,
            "long_long_long_long_long_long_long_key":1,"long_long_long_long_long_long_long_kez":2}"#
            .to_vec();
        let tape = simd_json::to_tape(&mut value).unwrap();
        let mut found = vec![ABSENT; tree.slots()];
        tree.find(&tape.0, 0, &mut found);
        let shown: Vec<Option<String>> =
            found.iter().map(|at| (*at != ABSENT).then(|| format!("{:?}", tape.0[*at as usize]))).collect();
        let number = |n: u64| Some(format!("Static(U64({n}))"));
        assert_eq!([&shown[0], &shown[1]], [&number(8), &number(7)]);
        assert!(shown[2].as_ref().is_some_and(|node| node.starts_with("Object")));
        assert_eq!(shown[3..], [number(6), number(5), None, None, number(1)]);
    }
}
