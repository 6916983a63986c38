//! What is in a MIME entity: the fields of a multipart form, the texts of a mail.

use mailparse::{DispositionType, MailHeaderMap, MailParseError, ParsedMail, parse_mail};

/// The texts of a mail.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Texts {
    pub(crate) subject: Option<String>,
    pub(crate) text: Option<String>,
    pub(crate) html: Option<String>,
    pub(crate) message_id: Option<String>,
    pub(crate) event_id: Option<String>,
}

/// The texts of a mail as it came.
pub(crate) fn texts(mail: &[u8]) -> Result<Texts, MailParseError> {
    let mail = parse_mail(mail)?;
    let header = |name: &str| mail.headers.get_first_value(name);
    Ok(Texts {
        subject: header("Subject"),
        text: part(&mail, "text/plain")?,
        html: part(&mail, "text/html")?,
        message_id: header("Message-ID"),
        event_id: header("X-Event-Id"),
    })
}

/// The first part of a kind, decoded, with the line ends of a text.
fn part(mail: &ParsedMail<'_>, kind: &str) -> Result<Option<String>, MailParseError> {
    let found = mail.parts().find(|part| part.ctype.mimetype == kind);
    let body = found.map(ParsedMail::get_body).transpose()?;
    Ok(body.map(|body| body.replace("\r\n", "\n")))
}

/// The fields of a form sent as `multipart/form-data` under this content type; files are left out.
pub(crate) fn form_fields(
    content_type: &str,
    body: &[u8],
) -> Result<Vec<(String, String)>, MailParseError> {
    let mut entity = format!("Content-Type: {content_type}\r\n\r\n").into_bytes();
    entity.extend_from_slice(body);
    let form = parse_mail(&entity)?;
    let mut fields = Vec::new();
    for part in &form.subparts {
        let disposition = part.get_content_disposition();
        let is_file = disposition.params.contains_key("filename");
        if disposition.disposition != DispositionType::FormData || is_file {
            continue;
        }
        if let Some(name) = disposition.params.get("name") {
            let value = String::from_utf8_lossy(&part.get_body_raw()?).into_owned();
            let value = value.strip_suffix("\r\n").unwrap_or(&value).to_owned();
            fields.push((name.clone(), value));
        }
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_in_russian_is_read() {
        let mail = "Subject: =?utf-8?b?0JfQsNC60LDQtw==?=\r\nMessage-ID: <1@x>\r\nX-Event-Id: e1\r\n\
            Content-Type: multipart/alternative; boundary=b\r\n\r\n\
            --b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n\
            0JfQtNGA0LDQstGB0YLQstGD0LnRgtC1IQ==\r\n\
            --b\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\
            <p>=D0=94=D0=B0</p>\r\n--b--\r\n";
        let texts = texts(mail.as_bytes()).unwrap();
        assert_eq!(texts.subject.as_deref(), Some("Заказ"));
        assert_eq!(texts.text.as_deref(), Some("Здравствуйте!"));
        assert_eq!(texts.html.as_deref().map(str::trim), Some("<p>Да</p>"));
        assert_eq!(texts.message_id.as_deref(), Some("<1@x>"));
        assert_eq!(texts.event_id.as_deref(), Some("e1"));
    }

    #[test]
    fn a_multipart_form_has_fields() {
        let body = "--b\r\nContent-Disposition: form-data; name=\"to\"\r\n\r\njo@example.com\r\n\
            --b\r\nContent-Disposition: form-data; name=\"text\"\r\n\r\nтекст\r\nline\r\n\
            --b\r\nContent-Disposition: form-data; name=\"attachment\"; filename=\"f\"\r\n\r\nx\r\n--b--\r\n";
        let fields = form_fields("multipart/form-data; boundary=b", body.as_bytes()).unwrap();
        let expected = [("to", "jo@example.com"), ("text", "текст\r\nline")];
        assert_eq!(
            fields,
            expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
    }
}
