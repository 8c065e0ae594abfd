//! The fields of a shape's object, one by one, for records that have them in another order.
//!
//! JSON objects have no order, so a record with the same fields means the same in any order: which of them count depends
//! on their names alone. Only the outermost object is split into fields.
//!
//! Invariant: no two fields have the same name (of such, the last counts, so their order would decide), and each is read
//! exactly once.

use std::ops::Range;

use super::{Literal, ShapeStep};

/// One bit for each field that was seen.
const MAX_FIELDS: usize = u64::BITS as usize;

/// Where the parts of a shape are in its literals.
#[derive(Debug)]
pub(super) struct ShapeFields {
    fields: Vec<ShapeField>,
    /// Up to the first field.
    opened: Literal,
    /// Between any two.
    separator: Literal,
    /// Behind the last.
    closed: usize,
}

/// A field: its values, and what stands before, between and behind them.
#[derive(Debug)]
pub(super) struct ShapeField {
    /// Its name, up to the first value.
    name: Literal,
    pub(super) steps: Range<usize>,
    /// What stands behind its last value.
    pub(super) tail: Literal,
}

impl ShapeFields {
    /// Splits a shape into fields; `None` if that cannot be done with certainty.
    pub(super) fn of(literals: &[u8], steps: &[ShapeStep]) -> Option<Self> {
        let opened = position(literals, 0, |byte| byte == b'{')? + 1;
        let opened = position(literals, opened, |byte| !byte.is_ascii_whitespace())?;
        let (mut fields, mut separator) = (Vec::<ShapeField>::new(), None::<Range<usize>>);
        let mut from = opened;
        let mut first_step = 0;
        let closed = loop {
            let FieldEnd { to, at, next } = field_end(literals, from)?;
            let behind = steps.partition_point(|step| step.literal.to() <= at);
            // Spaces before a number belong to the field.
            let last = steps.get(first_step..behind)?.last();
            let to = last.map_or(to, |step| to.max(step.literal.to()));
            fields.push(ShapeField::new(literals, from, to, steps, first_step..behind)?);
            first_step = behind;
            let Some(next) = next else { break to };
            let between = to..next;
            let known = separator.get_or_insert(between.clone());
            if literals.get(known.clone()) != literals.get(between) {
                return None;
            }
            from = next;
        };
        let names = || fields.iter().map(|field| name(literals, field));
        let is_twice = names().enumerate().any(|(at, name)| names().skip(at + 1).any(|other| other == name));
        if is_twice || fields.len() > MAX_FIELDS {
            return None;
        }
        let separator = separator?;
        let separator = Literal::new(literals, separator.start, separator.end)?;
        Some(Self { fields, opened: Literal::new(literals, 0, opened)?, separator, closed })
    }

    /// A bit for each field.
    pub(super) fn all(&self) -> u64 {
        u64::MAX >> (MAX_FIELDS - self.fields.len())
    }

    /// Where the first field begins.
    pub(super) fn open(&self, literals: &[u8], body: &[u8]) -> Option<usize> {
        self.opened.after(body, 0, literals)
    }

    /// The field that begins at `at`, one of the unseen, and where its name ends.
    #[inline]
    pub(super) fn next(
        &self,
        unseen: &mut u64,
        literals: &[u8],
        body: &[u8],
        at: usize,
    ) -> Option<(&ShapeField, usize)> {
        let mut left = *unseen;
        while left != 0 {
            let index = left.trailing_zeros() as usize;
            left &= left - 1;
            let field = self.fields.get(index)?;
            if let Some(at) = field.name.after(body, at, literals) {
                *unseen &= !(1 << index);
                return Some((field, at));
            }
        }
        None
    }

    /// Where the next field begins, if a separator stands at `at`.
    #[inline]
    pub(super) fn separate(&self, literals: &[u8], body: &[u8], at: usize) -> Option<usize> {
        self.separator.after(body, at, literals)
    }

    /// Whether the record ends at `at` as it should.
    pub(super) fn is_closed(&self, literals: &[u8], body: &[u8], at: usize) -> bool {
        body.get(at..) == literals.get(self.closed..)
    }
}

impl ShapeField {
    fn new(
        literals: &[u8],
        from: usize,
        to: usize,
        steps: &[ShapeStep],
        range: Range<usize>,
    ) -> Option<Self> {
        let own = steps.get(range.clone())?;
        let name_to = own.first().map_or(to, |step| step.literal.to());
        let tail_from = own.last().map_or(to, |step| step.literal.to());
        let name = Literal::new(literals, from, name_to)?;
        Some(Self { name, steps: range, tail: Literal::new(literals, tail_from, to)? })
    }
}

fn position(text: &[u8], from: usize, is: impl Fn(u8) -> bool) -> Option<usize> {
    text.get(from..)?.iter().position(|byte| is(*byte)).map(|at| from + at)
}

/// The field's name, without its quotes.
fn name<'l>(literals: &'l [u8], field: &ShapeField) -> Option<&'l [u8]> {
    let text = field.name.bytes(literals)?.get(1..)?;
    text.get(..text.iter().position(|byte| *byte == b'"')?)
}

struct FieldEnd {
    /// Behind the last byte that is not blank.
    to: usize,
    /// The comma or bracket.
    at: usize,
    /// The next field's first byte, if there is one.
    next: Option<usize>,
}

/// The end of the field that begins at `from`.
fn field_end(literals: &[u8], from: usize) -> Option<FieldEnd> {
    let quote =
        position(literals, from + 1, |byte| byte == b'"').filter(|_| literals.get(from) == Some(&b'"'))?;
    // A name with an escape may be another in disguise; one with a dot may lead where a nested one does.
    if literals.get(from..quote)?.iter().any(|byte| matches!(byte, b'\\' | b'.')) {
        return None;
    }
    let (mut depth, mut in_text, mut is_escaped, mut to) = (0usize, false, false, quote + 1);
    for (at, byte) in literals.iter().enumerate().skip(to) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_text => is_escaped = true,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'{' | b'[' => depth += 1,
            b'}' if depth == 0 => return Some(FieldEnd { to, at, next: None }),
            b'}' | b']' => depth = depth.checked_sub(1)?,
            b',' if depth == 0 => {
                let next = position(literals, at + 1, |byte| !byte.is_ascii_whitespace())?;
                return Some(FieldEnd { to, at, next: Some(next) });
            }
            _ => {}
        }
        if in_text || !byte.is_ascii_whitespace() {
            to = at + 1;
        }
    }
    None
}
