//! The reader of one section of the configuration file. A wrong value becomes a problem
//! and counts as missing, so that the rest is read too.

use std::net::SocketAddr;

use signpost_txmgr::spelling::nearest;
use toml::{Table, Value};

/// A table of the file, present or not.
#[derive(Debug)]
pub(super) struct Section<'t, 'p> {
    /// The section's name in problems, with a dot at the end; empty for the root.
    place: String,
    table: Option<&'t Table>,
    problems: &'p mut Vec<String>,
}

impl<'t, 'p> Section<'t, 'p> {
    pub(super) fn root(table: &'t Table, problems: &'p mut Vec<String>) -> Self {
        Self { place: String::new(), table: Some(table), problems }
    }

    /// An optional section; a missing one is empty.
    pub(super) fn section(&mut self, name: &str, keys: &[&str]) -> Section<'t, '_> {
        let value = self.table.and_then(|table| table.get(name));
        let table = value.and_then(Value::as_table);
        if value.is_some() && table.is_none() {
            self.problem(name, &format!("must be a section, [{name}]"));
        }
        let mut section = Section { place: format!("{name}."), table, problems: self.problems };
        section.only(keys);
        section
    }

    /// An optional section; `None` if it is missing.
    pub(super) fn optional_section(&mut self, name: &str, keys: &[&str]) -> Option<Section<'t, '_>> {
        self.has(name).then(|| self.section(name, keys))
    }

    /// A required section.
    pub(super) fn required_section(&mut self, name: &str, keys: &[&str]) -> Section<'t, '_> {
        if self.table.is_none_or(|table| !table.contains_key(name)) {
            self.problems.push(format!("[{name}] is missing; it holds {}", keys.join(", ")));
        }
        self.section(name, keys)
    }

    /// The sections with one name, `[[name]]`, if any. `None` if one of them has a problem.
    pub(super) fn each<T>(
        &mut self,
        name: &str,
        keys: &[&str],
        read: impl Fn(&mut Section<'t, '_>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let Some(value) = self.table.and_then(|table| table.get(name)) else { return Some(Vec::new()) };
        let list = value.as_array().and_then(|list| list.iter().map(Value::as_table).collect::<Option<Vec<_>>>());
        let Some(tables) = list else {
            self.problem(name, &format!("must be one or more sections, [[{}{name}]]", self.place.clone()));
            return None;
        };
        let place = self.place.clone();
        // All are read, even after problems in earlier ones.
        let read: Vec<Option<T>> = tables
            .into_iter()
            .zip(1..)
            .map(|(table, number)| {
                let place = format!("{place}{name}[{number}].");
                let mut section = Section { place, table: Some(table), problems: self.problems };
                section.only(keys);
                read(&mut section)
            })
            .collect();
        read.into_iter().collect()
    }

    pub(super) fn problem(&mut self, key: &str, problem: &str) {
        self.problems.push(format!("{}{key} {problem}", self.place));
    }

    /// Reports unknown keys.
    pub(super) fn only(&mut self, known: &[&str]) {
        let table = self.table;
        for key in table.into_iter().flat_map(Table::keys).filter(|key| !known.contains(&key.as_str())) {
            let advice = match nearest(key, known) {
                Some(meant) => format!("is not known; did you mean {meant}?"),
                None => format!("is not known; there are {}", known.join(", ")),
            };
            self.problem(key, &advice);
        }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// A required value. If the whole section is missing, only that is reported.
    fn required(&mut self, key: &str) -> Option<&'t Value> {
        let table = self.table?;
        let value = table.get(key);
        if value.is_none() {
            self.problem(key, "is missing");
        }
        value
    }

    pub(super) fn text(&mut self, key: &str) -> Option<String> {
        let value = self.required(key)?;
        self.as_text(key, value)
    }

    pub(super) fn optional_text(&mut self, key: &str) -> Option<String> {
        let value = self.table?.get(key)?;
        self.as_text(key, value)
    }

    pub(super) fn url(&mut self, key: &str) -> Option<String> {
        let text = self.text(key)?;
        self.as_url(key, text)
    }

    pub(super) fn optional_url(&mut self, key: &str) -> Option<String> {
        let text = self.optional_text(key)?;
        self.as_url(key, text)
    }

    pub(super) fn urls(&mut self, key: &str) -> Option<Vec<String>> {
        let value = self.required(key)?;
        let Some(list) = value.as_array().filter(|list| !list.is_empty()) else {
            self.problem(key, "must be a list of one or more URLs, [\"https://…\"]");
            return None;
        };
        let mut urls = Vec::with_capacity(list.len());
        for entry in list {
            let text = self.as_text(key, entry)?;
            urls.push(self.as_url(key, text)?);
        }
        Some(urls)
    }

    /// An optional address to listen on.
    pub(super) fn optional_address(&mut self, key: &str) -> Option<SocketAddr> {
        let text = self.optional_text(key)?;
        let address = text.parse().ok();
        if address.is_none() {
            self.problem(key, "must be an address with a port, \"127.0.0.1:9464\"");
        }
        address
    }

    /// An optional list of texts, possibly empty.
    pub(super) fn optional_texts(&mut self, key: &str) -> Option<Vec<String>> {
        let Some(value) = self.table?.get(key) else { return Some(Vec::new()) };
        let list = value.as_array().map(|list| list.iter().map(Value::as_str).map(|text| text.map(str::to_owned)));
        let texts = list.and_then(Iterator::collect::<Option<Vec<String>>>);
        if texts.is_none() {
            self.problem(key, "must be a list of texts, [\"…\"]");
        }
        texts
    }

    /// A required boolean.
    pub(super) fn flag(&mut self, key: &str) -> Option<bool> {
        self.required(key)?;
        self.optional_flag(key)
    }

    /// An optional boolean.
    pub(super) fn optional_flag(&mut self, key: &str) -> Option<bool> {
        let value = self.table?.get(key)?.as_bool();
        if value.is_none() {
            self.problem(key, "must be true or false");
        }
        value
    }

    /// A required whole number.
    pub(super) fn whole(&mut self, key: &str, least: u64, most: u64) -> Option<u64> {
        self.required(key)?;
        self.within(key, least, most)
    }

    /// An optional whole number.
    pub(super) fn within(&mut self, key: &str, least: u64, most: u64) -> Option<u64> {
        let value = self.table?.get(key)?;
        let number = value.as_integer().and_then(|number| u64::try_from(number).ok());
        let number = number.filter(|number| (least..=most).contains(number));
        if number.is_none() {
            let most = if most == u64::MAX { "up".to_owned() } else { format!("to {most}") };
            self.problem(key, &format!("must be a whole number from {least} {most}"));
        }
        number
    }

    /// A keyword, or a whole number from 1.
    pub(super) fn word_or<T>(&mut self, key: &str, word: (&str, T), most: u64, of: impl Fn(u64) -> T) -> Option<T> {
        let value = self.required(key)?;
        if value.as_str() == Some(word.0) {
            return Some(word.1);
        }
        let number = value.as_integer().and_then(|number| u64::try_from(number).ok());
        let number = number.filter(|number| (1..=most).contains(number));
        if number.is_none() {
            self.problem(key, &format!("must be \"{}\" or a whole number from 1 to {most}", word.0));
        }
        number.map(of)
    }

    fn as_text(&mut self, key: &str, value: &Value) -> Option<String> {
        let text = value.as_str().filter(|text| !text.trim().is_empty());
        if text.is_none() {
            self.problem(key, "must be a text, \"…\"");
        }
        text.map(str::to_owned)
    }

    fn as_url(&mut self, key: &str, text: String) -> Option<String> {
        let url = url::Url::parse(&text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        if url.is_none_or(|url| !url.has_host()) {
            // The value may contain a provider's key, so it is not printed.
            self.problem(key, "must be a URL that begins with http:// or https://");
            return None;
        }
        Some(text)
    }
}
