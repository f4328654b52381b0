"""What is on the wire: bytes in, values out.  No I/O and no asyncio here."""
