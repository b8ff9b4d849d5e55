//! Bytes as text.

/// `bytes` as hexadecimal digits, lower case.
///
/// ```
/// assert_eq!(hearken_data::hexadecimal(&[0, 15, 255]), "000fff");
/// ```
pub fn hexadecimal(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = |byte: &u8| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
    bytes.iter().flat_map(digits).map(char::from).collect()
}
