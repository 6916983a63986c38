//! The length of text messages. A network carries them in segments, and each is paid for.

/// Most segments of one message; a longer one is cut.
pub const SMS_SEGMENTS_MAX: usize = 2;

/// What of ASCII stands in the 7-bit alphabet (GSM 03.38) under one code.
const ASCII_LEFT_OUT: &str = "`[\\]^{|}~";
/// What else of our languages stands there. Characters that take two codes count as not in it: ours have none.
const BEYOND_ASCII: &str = "ÄÖÜäöüß§£¥èéùìòÇØøÅåÆæÉ¿¡ÑñàΔ";

/// How a message is written on the air.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Alphabet {
    Gsm,
    Ucs2,
}

impl Alphabet {
    fn of(text: &str) -> Self {
        let is_gsm = |c: char| {
            (c.is_ascii() && !c.is_ascii_control() && !ASCII_LEFT_OUT.contains(c))
                || c == '\n'
                || BEYOND_ASCII.contains(c)
        };
        if text.chars().all(is_gsm) {
            Self::Gsm
        } else {
            Self::Ucs2
        }
    }

    /// Codes in a message of one segment, and in each of several.
    const fn segment_units(self) -> (usize, usize) {
        match self {
            Self::Gsm => (160, 153),
            Self::Ucs2 => (70, 67),
        }
    }

    const fn units(self, c: char) -> usize {
        match self {
            Self::Gsm => 1,
            Self::Ucs2 => c.len_utf16(),
        }
    }
}

/// How many segments a text takes.
pub fn segments(text: &str) -> usize {
    let alphabet = Alphabet::of(text);
    let units: usize = text.chars().map(|c| alphabet.units(c)).sum();
    let (alone, joined) = alphabet.segment_units();
    if units <= alone {
        1
    } else {
        units.div_ceil(joined)
    }
}

/// The text, cut where it would take more than [`SMS_SEGMENTS_MAX`] segments.
pub fn fitted(text: &str) -> String {
    if segments(text) <= SMS_SEGMENTS_MAX {
        return text.to_owned();
    }
    let alphabet = Alphabet::of(text);
    let (_, joined) = alphabet.segment_units();
    let mut room = joined * SMS_SEGMENTS_MAX;
    let fits = |c: &char| match room.checked_sub(alphabet.units(*c)) {
        Some(left) => {
            room = left;
            true
        }
        None => false,
    };
    text.chars().take_while(fits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_counted_as_the_network_does() {
        for (text, expected) in [
            ("", 1),
            (&*"a".repeat(160), 1),
            (&*"ü".repeat(160), 1),
            (&*"a".repeat(161), 2),
            (&*"a".repeat(307), 3),
            (&*"я".repeat(70), 1),
            (&*"я".repeat(71), 2),
            (&*"я".repeat(134), 2),
            (&*"я".repeat(135), 3),
            (&*"😀".repeat(35), 1),
            (&*"😀".repeat(36), 2),
        ] {
            assert_eq!(
                segments(text),
                expected,
                "{} characters",
                text.chars().count()
            );
        }
    }

    #[test]
    fn what_is_too_long_is_cut_between_characters() {
        assert_eq!(fitted("short"), "short");
        assert_eq!(fitted(&"a".repeat(2_000)).len(), 306);
        assert_eq!(fitted(&"я".repeat(2_000)).chars().count(), 134);
        assert_eq!(fitted(&"😀".repeat(2_000)).chars().count(), 67);
        for long in ["a", "я", "😀"] {
            assert_eq!(segments(&fitted(&long.repeat(2_000))), SMS_SEGMENTS_MAX);
        }
    }
}
