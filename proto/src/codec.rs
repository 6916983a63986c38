//! How messages are read and written: as Protobuf, with a limit on what a small message may grow to in memory.

use std::marker::PhantomData;

use prost::{
    Message,
    bytes::Buf,
    encoding::{DecodeContext, decode_key, skip_field},
};
use tonic::{
    Status,
    codec::{BufferSettings, Codec, DecodeBuf, Decoder},
};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

/// How many fields a message may have, each item of a list counted. An empty line of an order is two bytes on the way and
/// a hundred in memory; the largest order has about 2,000.
pub const FIELDS_MAX: usize = 4_096;

/// Protobuf, with at most [`FIELDS_MAX`] fields in a message that is received.
pub struct Bounded<Sent, Received>(PhantomData<(Sent, Received)>);

impl<Sent, Received> Default for Bounded<Sent, Received> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<Sent, Received> Codec for Bounded<Sent, Received>
where
    Sent: Message + 'static,
    Received: Message + Default + 'static,
{
    type Encode = Sent;
    type Decode = Received;
    type Encoder = ProstEncoder<Sent>;
    type Decoder = BoundedDecoder<Received>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<Sent, Received>::default().encoder()
    }

    fn decoder(&mut self) -> Self::Decoder {
        BoundedDecoder(ProstCodec::<Sent, Received>::default().decoder())
    }
}

/// Reads a message that is within the limit.
pub struct BoundedDecoder<Received>(ProstDecoder<Received>);

impl<Received: Message + Default> Decoder for BoundedDecoder<Received> {
    type Item = Received;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Received>, Status> {
        // A whole message is in the buffer, in one piece; what is not is left to the decoder.
        within_limit(buffer.chunk())?;
        self.0.decode(buffer)
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.0.buffer_settings()
    }
}

fn within_limit(mut message: &[u8]) -> Result<(), Status> {
    for _ in 0..FIELDS_MAX {
        if message.is_empty() {
            return Ok(());
        }
        // What is damaged is found by the decoder as well.
        let Ok((tag, wire_type)) = decode_key(&mut message) else {
            return Ok(());
        };
        if skip_field(wire_type, tag, &mut message, DecodeContext::default()).is_err() {
            return Ok(());
        }
    }
    match message.is_empty() {
        true => Ok(()),
        false => Err(Status::invalid_argument(format!(
            "a message may have {FIELDS_MAX} fields"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::{CreateOrderRequest, NewOrderLine};

    #[test]
    fn a_message_has_a_bounded_number_of_fields() {
        for (lines, good) in [(0, true), (FIELDS_MAX, true), (FIELDS_MAX + 1, false)] {
            let order = CreateOrderRequest {
                lines: vec![NewOrderLine::default(); lines],
                ..CreateOrderRequest::default()
            };
            let message = order.encode_to_vec();
            assert_eq!(within_limit(&message).is_ok(), good, "{lines} lines");
        }
    }
}
