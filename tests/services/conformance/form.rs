//! Requests and answers of Kafka's protocol in any version, written and read by their published schemas.
//!
//! An answer is read whole, field by field, into lines such as `topics.0.error = 3`; one byte too many or too few is
//! noticed. What differs between any two brokers (their numbers, ports, ids) is said only to be there or not, and what they
//! say in words or of their configuration is read and left out.

/// A field's type.
pub enum Kind {
    I8,
    I16,
    I32,
    I64,
    Uuid,
    Text,
    Bytes,
    /// Numbers of brokers.
    Brokers,
    Array(&'static [Field]),
}

/// A field of an answer: its name, its type, and the first and last version that have it.
pub struct Field(pub &'static str, pub Kind, pub i16, pub i16);

/// A field of all versions.
pub const fn all(name: &'static str, kind: Kind) -> Field {
    Field(name, kind, 0, i16::MAX)
}

/// A field from a version on.
pub const fn since(version: i16, name: &'static str, kind: Kind) -> Field {
    Field(name, kind, version, i16::MAX)
}

/// What names a broker or a thing of its own: of these only whether they are there is compared.
const OWN: [&str; 10] = [
    "throttle",
    "node",
    "host",
    "port",
    "cluster",
    "controller",
    "topic_id",
    "leader",
    "replica",
    "producer_id",
];

/// What each broker says in its own way: words, configuration, and beside an error the start of the log or not.
const LEFT_OUT: [&str; 3] = ["message", "configuration", "log_start"];

/// A request that is being written.
pub struct Body {
    pub version: i16,
    flexible: bool,
    pub bytes: Vec<u8>,
}

impl Body {
    pub fn new(version: i16, flexible: bool) -> Self {
        Self { version, flexible, bytes: Vec::new() }
    }

    pub fn is_flexible(&self) -> bool {
        self.flexible
    }

    pub fn put<const N: usize>(&mut self, bytes: [u8; N]) {
        self.bytes.extend(bytes);
    }

    /// Writes what only versions from `version` on have.
    pub fn since<const N: usize>(&mut self, version: i16, bytes: [u8; N]) {
        if self.version >= version {
            self.put(bytes);
        }
    }

    fn compact(&mut self, length: usize) {
        assert!(length < 1 << 13, "two bytes are enough here");
        let length = length + 1;
        if length < 0x80 {
            self.bytes.push(length as u8);
        } else {
            self.bytes.extend([length as u8 | 0x80, (length >> 7) as u8]);
        }
    }

    pub fn text(&mut self, text: &str) {
        if self.flexible {
            self.compact(text.len());
        } else {
            self.put((text.len() as i16).to_be_bytes());
        }
        self.bytes.extend(text.as_bytes());
    }

    pub fn null_text(&mut self) {
        if self.flexible { self.put([0]) } else { self.put([0xFF; 2]) }
    }

    pub fn length(&mut self, length: usize) {
        if self.flexible { self.compact(length) } else { self.put((length as i32).to_be_bytes()) }
    }

    /// The end of a structure.
    pub fn tags(&mut self) {
        if self.flexible {
            self.put([0]);
        }
    }
}

/// Reads an answer by its schema.
pub fn read(schema: &[Field], version: i16, flexible: bool, answer: &[u8]) -> Vec<String> {
    let mut reader = Reader { rest: answer, version, flexible, lines: Vec::new() };
    reader.structure("", schema);
    if !reader.rest.is_empty() {
        reader.lines.push(format!("{} bytes too many", reader.rest.len()));
    }
    reader.lines
}

struct Reader<'a> {
    rest: &'a [u8],
    version: i16,
    flexible: bool,
    lines: Vec<String>,
}

impl Reader<'_> {
    fn structure(&mut self, path: &str, schema: &[Field]) {
        let version = self.version;
        for Field(name, kind, ..) in schema.iter().filter(|field| (field.2..=field.3).contains(&version)) {
            let lines = self.lines.len();
            self.field(&format!("{path}{name}"), name, kind);
            if LEFT_OUT.contains(name) {
                self.lines.truncate(lines);
            }
        }
        if self.flexible {
            for _ in 0..self.varint() {
                let (tag, length) = (self.varint(), self.varint());
                let field = self.take(length).to_vec();
                self.lines.push(format!("{path}tag {tag} = {field:?}"));
            }
        }
    }

    fn field(&mut self, path: &str, name: &str, kind: &Kind) {
        let value = match kind {
            Kind::I8 => i8::from_be_bytes(self.fixed()).to_string(),
            Kind::I16 => i16::from_be_bytes(self.fixed()).to_string(),
            Kind::I32 => i32::from_be_bytes(self.fixed()).to_string(),
            Kind::I64 => i64::from_be_bytes(self.fixed()).to_string(),
            Kind::Uuid => match self.fixed::<16>() {
                [0, ..] if self.rest.is_empty() => "none".to_owned(),
                id => format!("{:032x}", u128::from_be_bytes(id)),
            },
            Kind::Text => {
                let length =
                    if self.flexible { self.compact() } else { i16::from_be_bytes(self.fixed()).into() };
                self.bytes(length).map_or("null".to_owned(), |text| String::from_utf8(text).expect("UTF-8"))
            }
            Kind::Bytes => {
                let length = self.length();
                format!("{:?}", self.bytes(length))
            }
            Kind::Brokers => {
                // The numbers themselves are the brokers' own.
                let count = self.length();
                self.bytes(4 * count);
                format!("{count} brokers")
            }
            Kind::Array(schema) => {
                // No array at all is read as an empty one by every client.
                let count = self.length().max(0);
                self.lines.push(format!("{path} = {count} items"));
                for index in 0..count {
                    self.structure(&format!("{path}.{index}."), schema);
                }
                return;
            }
        };
        let there = !["null", "-1", "", "none"].contains(&value.as_str());
        let value = if OWN.contains(&name) { if there { "there" } else { "not there" } } else { &value };
        self.lines.push(format!("{path} = {value}"));
    }

    fn take(&mut self, count: usize) -> &[u8] {
        let (head, tail) = self.rest.split_at_checked(count).expect("the answer ends early");
        self.rest = tail;
        head
    }

    fn fixed<const N: usize>(&mut self) -> [u8; N] {
        self.take(N).try_into().expect("as many as requested")
    }

    fn varint(&mut self) -> usize {
        let mut number = 0;
        for shift in (0..35).step_by(7) {
            let [byte] = self.fixed();
            number |= usize::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        number
    }

    fn compact(&mut self) -> i32 {
        self.varint() as i32 - 1
    }

    fn length(&mut self) -> i32 {
        if self.flexible { self.compact() } else { i32::from_be_bytes(self.fixed()) }
    }

    fn bytes(&mut self, length: i32) -> Option<Vec<u8>> {
        (length >= 0).then(|| self.take(length as usize).to_vec())
    }
}
