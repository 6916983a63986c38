//! The shape of language tags: BCP 47 (RFC 5646, section 2.1), without its list of irregular old tags.

/// `tag` in its recommended letter case (`de-latn-de` is `de-Latn-DE`), or `None` if it is not
/// well-formed. Whether the languages and regions in it exist is not looked up.
pub(super) fn canonical(tag: &str) -> Option<String> {
    let subtags: Vec<&str> = tag.split('-').collect();
    is_well_formed(&subtags).then(|| in_recommended_case(&subtags))
}

fn is_well_formed(subtags: &[&str]) -> bool {
    let Some((language, mut rest)) = subtags.split_first() else {
        return false;
    };
    if !is_alpha(language, 2, 8) {
        return false;
    }
    if language.len() <= 3 {
        for _ in 0..3 {
            skip(&mut rest, |extended| is_alpha(extended, 3, 3));
        }
    }
    skip(&mut rest, |script| is_alpha(script, 4, 4));
    skip(&mut rest, |region| {
        is_alpha(region, 2, 2) || is_digits(region, 3)
    });
    while skip(&mut rest, is_variant) {}
    while skip(&mut rest, |singleton| {
        is_alphanumeric(singleton, 1, 1) && !is_private(singleton)
    }) {
        if !skip(&mut rest, |extension| is_alphanumeric(extension, 2, 8)) {
            return false;
        }
        while skip(&mut rest, |extension| is_alphanumeric(extension, 2, 8)) {}
    }
    if skip(&mut rest, is_private) {
        return !rest.is_empty() && rest.iter().all(|private| is_alphanumeric(private, 1, 8));
    }
    rest.is_empty()
}

/// RFC 5646, section 2.1.1: two letters are upper case and four are title case, except at the start
/// and after a single character; all else is lower case.
fn in_recommended_case(subtags: &[&str]) -> String {
    let mut tag = String::new();
    let mut plain = true;
    for subtag in subtags {
        if !tag.is_empty() {
            tag.push('-');
        }
        let start = tag.len();
        tag.push_str(&subtag.to_ascii_lowercase());
        let upper = match subtag.len() {
            2 if !plain => 2,
            4 if !plain => 1,
            _ => 0,
        };
        if let Some(letters) = tag.get_mut(start..start + upper) {
            letters.make_ascii_uppercase();
        }
        plain = subtag.len() == 1;
    }
    tag
}

/// Takes the first subtag away if it is as `wanted`.
fn skip(subtags: &mut &[&str], wanted: impl Fn(&str) -> bool) -> bool {
    match subtags.split_first() {
        Some((first, rest)) if wanted(first) => {
            *subtags = rest;
            true
        }
        Some(_) | None => false,
    }
}

fn is_variant(subtag: &str) -> bool {
    is_alphanumeric(subtag, 5, 8)
        || (is_alphanumeric(subtag, 4, 4)
            && subtag.starts_with(|first: char| first.is_ascii_digit()))
}

fn is_private(subtag: &str) -> bool {
    subtag.eq_ignore_ascii_case("x")
}

fn is_alpha(subtag: &str, min: usize, max: usize) -> bool {
    (min..=max).contains(&subtag.len()) && subtag.bytes().all(|byte| byte.is_ascii_alphabetic())
}

fn is_digits(subtag: &str, length: usize) -> bool {
    subtag.len() == length && subtag.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_alphanumeric(subtag: &str, min: usize, max: usize) -> bool {
    (min..=max).contains(&subtag.len()) && subtag.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::canonical;

    #[test]
    fn well_formed_tags_are_written_in_recommended_case() {
        for (tag, expected) in [
            ("de", "de"),
            ("DE-de", "de-DE"),
            ("EN-US", "en-US"),
            ("zh-hant-tw", "zh-Hant-TW"),
            ("es-419", "es-419"),
            ("sl-rozaj-biske-1994", "sl-rozaj-biske-1994"),
            ("zh-cmn-Hans-CN", "zh-cmn-Hans-CN"),
            ("de-DE-u-co-PHONEBK", "de-DE-u-co-phonebk"),
            ("en-x-Twain-1", "en-x-twain-1"),
            ("mn-cyrl-mn", "mn-Cyrl-MN"),
        ] {
            assert_eq!(canonical(tag).as_deref(), Some(expected), "{tag}");
        }
    }

    #[test]
    fn what_is_no_tag_is_refused() {
        for tag in [
            "",
            "-",
            "d",
            "1",
            "de-",
            "-de",
            "de--DE",
            "de_DE",
            "de DE",
            "d€",
            "de-u",
            "de-x",
            "deutschland",
            "de-DE-DE",
            "x-private",
            "de-DE-toolongsubtag",
            "en-US-u-",
            "en.UTF-8",
            "français",
        ] {
            assert_eq!(canonical(tag), None, "{tag}");
        }
    }
}
