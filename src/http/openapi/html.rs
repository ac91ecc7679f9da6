//! The little HTML that the pages need. Everything that comes in is escaped here.

/// A page that is being written.
#[derive(Default)]
pub(super) struct Html(String);

impl Html {
    /// Markup of our own, as it is.
    pub(super) fn raw(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        for c in text.chars() {
            match c {
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '&' => self.0.push_str("&amp;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                c => self.0.push(c),
            }
        }
        self
    }

    pub(super) fn code(&mut self, text: &str) -> &mut Self {
        self.raw("<code>").text(text).raw("</code>")
    }

    /// `text` with what stands between backticks as code.
    pub(super) fn prose(&mut self, text: &str) -> &mut Self {
        for (i, part) in text.split('`').enumerate() {
            if i % 2 == 1 {
                self.code(part);
            } else {
                self.text(part);
            }
        }
        self
    }

    /// The same in paragraphs.
    pub(super) fn paragraphs(&mut self, text: &str) -> &mut Self {
        for part in text.split("\n\n").filter(|part| !part.is_empty()) {
            self.raw("<p>").prose(part).raw("</p>\n");
        }
        self
    }

    pub(super) fn link(&mut self, to: &str, text: &str) -> &mut Self {
        self.raw("<a href=\"").text(to).raw("\">").text(text).raw("</a>")
    }

    pub(super) fn finish(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_gets_out_of_its_place() {
        let mut html = Html::default();
        html.prose("a<b> & `c\"d` 'e'").link("\"><script>", "<x>");
        assert_eq!(
            html.finish(),
            "a&lt;b&gt; &amp; <code>c&quot;d</code> &#39;e&#39;\
             <a href=\"&quot;&gt;&lt;script&gt;\">&lt;x&gt;</a>"
        );
    }
}
