//! What the units are called, before and after.
#![forbid(unsafe_code)]

/// The names of a pair `FOO.socket`, `FOO@.service`. For a template `FOO@.socket`, or one of its instances, systemd takes the same
/// service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// `FOO`, as in the unit's name, escapes and all.
    pub prefix: String,
    /// Whether the socket is a template.
    pub is_template: bool,
}

impl Names {
    /// From `FOO.socket`, `FOO`, or `FOO@.service`, which is how one might name the pair.
    ///
    /// # Errors
    /// One line.
    pub fn parse(unit: &str) -> Result<Self, String> {
        let name = unit.strip_suffix(".socket").or_else(|| unit.strip_suffix("@.service")).unwrap_or(unit);
        let (prefix, is_template) = name.split_once('@').map_or((name, false), |(prefix, _)| (prefix, true));
        let is_valid = |c: char| c.is_ascii_alphanumeric() || ":-_.\\".contains(c);
        if prefix.is_empty()
            || !prefix.chars().all(is_valid)
            || prefix.len() > 200
            || [".service", ".slice"].iter().any(|s| prefix.ends_with(s))
        {
            return Err(format!("'{unit}' is not the name of a socket unit: expected one such as foo.socket"));
        }
        Ok(Self { prefix: prefix.to_owned(), is_template })
    }

    fn at(&self) -> &'static str {
        if self.is_template { "@" } else { "" }
    }

    /// The socket unit.
    pub fn socket(&self) -> String {
        format!("{}{}.socket", self.prefix, self.at())
    }

    /// The template of its services.
    pub fn service(&self) -> String {
        format!("{}@.service", self.prefix)
    }

    /// The socket unit to be.
    pub fn new_socket(&self) -> String {
        format!("{}-capped{}.socket", self.prefix, self.at())
    }

    /// The service to be.
    pub fn new_service(&self) -> String {
        format!("{}-capped{}.service", self.prefix, self.at())
    }

    /// The new unit `name`, as another unit refers to it: with the instance, if it is a template.
    pub fn reference(&self, name: &str) -> String {
        if self.is_template { name.replacen('@', "@%i", 1) } else { name.to_owned() }
    }

    /// A list of units in `[Unit]` or `[Install]` with the pair's own names in it: `Conflicts=other.service foo.socket`.
    pub fn renamed(&self, units: &str) -> String {
        let rename = |unit: &str| {
            let instance = |suffix| unit.strip_prefix(&self.prefix)?.strip_suffix(suffix);
            match (instance(".socket"), instance(".service")) {
                (Some(""), _) => self.reference(&self.new_socket()),
                (Some(at), _) if self.is_template && at.starts_with('@') => self.reference(&self.new_socket()),
                (_, Some(at)) if at.starts_with('@') => self.reference(&self.new_service()),
                _ => unit.to_owned(),
            }
        };
        units.split_whitespace().map(rename).collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_before_and_after() {
        for name in ["foo.socket", "foo", "foo@.service"] {
            let names = Names::parse(name).unwrap();
            assert_eq!(
                [names.service(), names.new_socket(), names.new_service()],
                ["foo@.service", "foo-capped.socket", "foo-capped.service"].map(String::from)
            );
        }
        let names = Names::parse("foo@bar.socket").unwrap();
        assert_eq!(
            [names.socket(), names.service(), names.new_service()],
            ["foo@.socket", "foo@.service", "foo-capped@.service"].map(String::from)
        );
        assert_eq!(names.renamed("foo@%i.socket"), "foo-capped@%i.socket");
        for bad in ["", ".socket", "a/b.socket", "foo.service", "@x.socket", "a b.socket"] {
            assert!(Names::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn references_to_itself_follow() {
        let names = Names::parse("foo.socket").unwrap();
        assert_eq!(
            names.renamed("a.service foo.socket  foo@.service foo@%i.service foo.service foobar.socket"),
            "a.service foo-capped.socket foo-capped.service foo-capped.service foo.service foobar.socket"
        );
    }
}
