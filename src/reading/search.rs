//! Finds the readings in a parsed record: inside its envelope, and each element if it is a list.

use simd_json::Node;

use super::format::{Envelope, Format};
use super::path::{ABSENT, FieldNodes, Slot, Tree, parts};
use super::plan::Plan;

/// Buffers that are reused for each record.
#[derive(Debug, Default)]
pub(super) struct Search {
    found: FieldNodes,
    /// What was found beside a list.
    beside: FieldNodes,
}

/// A reading that was found.
#[derive(Debug, Clone, Copy)]
pub(super) struct FoundReading {
    pub(super) plan: Plan,
    /// The node of the object that has its fields.
    pub(super) at: usize,
    /// Whether it is an element of a list.
    pub(super) is_element: bool,
}

impl Search {
    /// Returns the possible readings in a parsed record: one, unless both the format and the record have a list. None if it is
    /// neither an object nor a list.
    pub(super) fn each(&mut self, format: &Format, nodes: &[Node<'_>], mut take: impl FnMut(FoundReading)) {
        let is_record = match nodes.first() {
            Some(Node::Object { .. }) => true,
            Some(Node::Array { .. }) => format.list.as_ref().is_some_and(|list| list.array.is_none()),
            _ => false,
        };
        if !is_record {
            return;
        }
        let root = self.unwrap(format, nodes);
        let Some(list) = &format.list else {
            return take(FoundReading {
                plan: Plan::new(format, nodes, &self.found),
                at: root,
                is_element: false,
            });
        };
        let slots = format.tree.slots();
        look(&list.outer, nodes, root, slots, &mut self.beside);
        let array = match list.array {
            Some(slot) => node_of(&self.beside, slot),
            None => Some(root),
        };
        let mut read = |at: usize, is_element: bool| {
            self.found.clone_from(&self.beside);
            format.tree.find(nodes, at, &mut self.found);
            take(FoundReading { plan: Plan::new(format, nodes, &self.found), at, is_element });
        };
        match array.and_then(|at| Some((at, nodes.get(at)?))) {
            Some((at, Node::Array { len, .. })) => {
                let mut next = at + 1;
                for _ in 0..*len {
                    let Some(element) = nodes.get(next) else { return };
                    read(next, true);
                    next += 1 + parts(element);
                }
            }
            _ => read(root, false),
        }
    }

    /// The node of the record within its envelope, if it has one; the fields of it are found.
    fn unwrap(&mut self, format: &Format, nodes: &[Node<'_>]) -> usize {
        let slots = format.tree.slots();
        let mut root = 0;
        look(&format.tree, nodes, root, slots, &mut self.found);
        // Connect's around Debezium's at most.
        for _ in 0..2 {
            let Some(inner) = enveloped(&format.envelope, nodes, &self.found) else { break };
            root = inner;
            look(&format.tree, nodes, root, slots, &mut self.found);
        }
        root
    }
}

fn look(tree: &Tree, nodes: &[Node<'_>], root: usize, slots: usize, found: &mut FieldNodes) {
    found.resize(slots, ABSENT);
    found.fill(ABSENT);
    tree.find(nodes, root, found);
}

fn node_of(found: &FieldNodes, slot: Slot) -> Option<usize> {
    found.get(usize::from(slot)).filter(|at| **at != ABSENT).map(|at| *at as usize)
}

/// Where the record is within its envelope, if it has one.
fn enveloped(envelope: &Envelope, nodes: &[Node<'_>], found: &FieldNodes) -> Option<usize> {
    let object = |slot| {
        let at = node_of(found, slot)?;
        matches!(nodes.get(at), Some(Node::Object { .. })).then_some(at)
    };
    let connect = node_of(found, envelope.schema).and_then(|_| object(envelope.payload));
    connect.or_else(|| node_of(found, envelope.operation).and_then(|_| object(envelope.after)))
}
