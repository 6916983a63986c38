//! What bodies about orders look like, for the API description: the limits are those that the reader keeps.

use domain::{
    money::DECIMALS_MAX,
    values::{Address, LINES_MAX, LineName, Note, QUANTITY_MAX, Reason, Sku},
};
use runtime::openapi::schema::{self, closed_object, nullable, or_null, text};
use utoipa::openapi::{ArrayBuilder, KnownFormat, ObjectBuilder, Ref, Type};

use super::{Contents, NewOrder, Reasoned, StatusChange};

/// A line of an order in a request.
pub enum NewLine {}
/// An address in a request.
pub enum NewAddress {}

described! {
    NewOrder as "NewOrder", new_order, [NewLine, NewAddress];
    Contents as "OrderContents", replacement, [NewLine, NewAddress];
    StatusChange as "StatusChange", status_change, [];
    Reasoned as "Cancellation", cancellation, [];
    NewLine as "NewLine", line, [];
    NewAddress as "NewAddress", address, [];
}

fn new_order() -> ObjectBuilder {
    let customer = schema::formatted(
        KnownFormat::Uuid,
        "Whose order it is, where that is not the caller. For admins.",
    );
    contents(closed_object("An order to be placed."))
        .property("customer_id", or_null(customer, Type::String))
        .property(
            "currency",
            schema::pattern(
                "^[A-Z]{3}$",
                "The currency of its prices, ISO 4217. It does not change.",
            ),
        )
        .required("currency")
}

fn replacement() -> ObjectBuilder {
    contents(closed_object(
        "What an order holds from now on; what is left out goes.",
    ))
}

fn contents(object: ObjectBuilder) -> ObjectBuilder {
    let lines = ArrayBuilder::new()
        .items(Ref::from_schema_name("NewLine"))
        .min_items(Some(1))
        .max_items(Some(LINES_MAX))
        .description(Some(
            "What is ordered. The same sku may stand twice. The total must fit 64 bits of minor units.",
        ));
    let attributes = ObjectBuilder::new().schema_type(Type::Object).description(Some(
        "Any JSON object: at most 16 KiB as compact JSON, 32 levels deep. Not sealed: no place for personal data.",
    ));
    let note = text(
        Note::CHARS_MIN,
        Note::CHARS_MAX,
        "The customer's words. Sealed.",
    );
    object
        .property("lines", lines)
        .required("lines")
        .property(
            "shipping_address",
            nullable(Ref::from_schema_name("NewAddress")).description(Some("Where to. Sealed.")),
        )
        .property("note", or_null(note, Type::String))
        .property("attributes", or_null(attributes, Type::Object))
}

fn line() -> ObjectBuilder {
    let sku = text(
        Sku::CHARS_MIN,
        Sku::CHARS_MAX,
        "The seller's name for the article: visible characters, no blanks.",
    )
    .pattern(Some(r"^[^\s\u0000-\u001F\u007F-\u009F]*$"));
    let name = text(
        LineName::CHARS_MIN,
        LineName::CHARS_MAX,
        "What it is called.",
    );
    let quantity_max = usize::try_from(QUANTITY_MAX).unwrap_or_default();
    let price = format!(r"^(0|[1-9][0-9]*)(\.[0-9]{{1,{DECIMALS_MAX}}})?$");
    closed_object("A position of an order.")
        .property("sku", sku)
        .required("sku")
        .property("name", or_null(name, Type::String))
        .property("quantity", schema::integer(1, quantity_max, "How many pieces."))
        .required("quantity")
        .property(
            "unit_price",
            schema::pattern(
                &price,
                "What one piece costs: a decimal number with no more decimals than the currency has.",
            ),
        )
        .required("unit_price")
}

fn address() -> ObjectBuilder {
    let part = |min, max, description| text(min, max, description);
    let (line, place) = (Address::LINE_CHARS_MAX, Address::PLACE_CHARS_MAX);
    closed_object("Where an order is sent to.")
        .property("recipient", part(1, line, "Who gets it."))
        .required("recipient")
        .property("street", part(1, line, "Street and number."))
        .required("street")
        .property(
            "street2",
            or_null(part(0, line, "A second line."), Type::String),
        )
        .property(
            "postal_code",
            part(1, Address::POSTAL_CODE_CHARS_MAX, "The postal code."),
        )
        .required("postal_code")
        .property("city", part(1, place, "The city."))
        .required("city")
        .property(
            "region",
            or_null(
                part(0, place, "State, province, or the like."),
                Type::String,
            ),
        )
        .property(
            "country",
            schema::pattern("^[A-Z]{2}$", "The country, ISO 3166-1 alpha-2."),
        )
        .required("country")
}

fn status_change() -> ObjectBuilder {
    let words = ["in_progress", "completed", "cancelled"];
    closed_object("A step of an order.")
        .property(
            "status",
            schema::one_of(&words, "Where it stands from now on."),
        )
        .required("status")
        .property("reason", or_null(reason(), Type::String))
}

fn cancellation() -> ObjectBuilder {
    closed_object("Calling an order off.").property("reason", or_null(reason(), Type::String))
}

fn reason() -> ObjectBuilder {
    text(
        Reason::CHARS_MIN,
        Reason::CHARS_MAX,
        "Why. Not sealed: no place for personal data.",
    )
}
