//! A scrape, read strictly: Prometheus text format, version 0.0.4.

/// A family with its samples, as they stand in the text.
#[derive(Debug, Clone, PartialEq)]
pub struct Family {
    pub name: String,
    pub help: String,
    pub kind: String,
    pub samples: Vec<Sample>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    pub name: String,
    pub labels: Vec<(String, String)>,
    pub value: f64,
}

impl Sample {
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(label, _)| label == name).map(|(_, value)| value.as_str())
    }
}

/// Each family has its `HELP` and its `TYPE`, in this order and in front of its samples.
pub fn parse(text: &str) -> Result<Vec<Family>, String> {
    let mut families: Vec<Family> = Vec::new();
    let mut helped: Option<(&str, &str)> = None;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            if helped.is_some() {
                return Err(format!("two HELP lines without a TYPE: {line}"));
            }
            helped = Some(rest.split_once(' ').ok_or_else(|| format!("no help: {line}"))?);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').ok_or_else(|| format!("no type: {line}"))?;
            let help = helped.take().filter(|(of, _)| *of == name);
            let (_, help) = help.ok_or_else(|| format!("no HELP before: {line}"))?;
            let family = Family {
                name: name.to_owned(),
                help: help.to_owned(),
                kind: kind.to_owned(),
                samples: Vec::new(),
            };
            families.push(family);
        } else {
            let sample = sample(line).ok_or_else(|| format!("no sample: {line}"))?;
            let family = families.last_mut().filter(|_| helped.is_none());
            let family = family.ok_or_else(|| format!("of no family: {line}"))?;
            family.samples.push(sample);
        }
    }
    Ok(families)
}

fn sample(line: &str) -> Option<Sample> {
    let (name, mut rest) = line.split_at(line.find(['{', ' '])?);
    let mut labels = Vec::new();
    if let Some(mut inner) = rest.strip_prefix('{') {
        loop {
            let (label, behind) = inner.split_once("=\"")?;
            let (value, behind) = quoted(behind)?;
            labels.push((label.to_owned(), value));
            let Some(more) = behind.strip_prefix(',') else {
                rest = behind.strip_prefix('}')?;
                break;
            };
            inner = more;
        }
    }
    let value = rest.strip_prefix(' ')?.parse().ok()?;
    Some(Sample { name: name.to_owned(), labels, value })
}

/// A label's value without its escapes, and what stands behind its closing quote.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                c @ ('\\' | '"') => value.push(c),
                _ => return None,
            },
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_is_read() {
        let text = "# HELP a Of a.\n# TYPE a gauge\na 1.5\n# HELP b Of b.\n# TYPE b counter\n\
                    b{x=\"1\",y=\"\\\"\\\\\\n,}\"} 7\nb{x=\"2\",y=\"\"} +Inf\n";
        let families = parse(text).unwrap();
        assert_eq!(families.len(), 2);
        assert_eq!((&*families[0].help, &*families[0].kind), ("Of a.", "gauge"));
        assert_eq!(families[1].samples[0].label("y"), Some("\"\\\n,}"));
        assert!(families[1].samples[1].value.is_infinite());
    }

    #[test]
    fn a_scrape_that_is_none() {
        for (text, wrong) in [
            ("a 1\n", "of no family"),
            ("# TYPE a gauge\na 1\n", "no HELP before"),
            ("# HELP b B.\n# TYPE a gauge\na 1\n", "no HELP before"),
            ("# HELP a A.\na 1\n", "of no family"),
            ("# HELP a A.\n# HELP b B.\n", "two HELP lines"),
            ("# HELP a A.\n# TYPE a gauge\na one\n", "no sample"),
            ("# HELP a A.\n# TYPE a gauge\na{b=\"c} 1\n", "no sample"),
            ("# HELP a A.\n# TYPE a gauge\na{b=\"c\"}\n", "no sample"),
            ("# HELP a A.\n# TYPE a gauge\n\na 1\n", "no sample"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(wrong), "{error}");
        }
    }
}
