/** Lines: the lines of a file as bytes, as all of them may be more than the longest text. Pure. */

/** The complete lines of bytes, each with its end and over the same memory. */
export const of = (bytes: Buffer): ReadonlyArray<Buffer> => {
  const lines: Array<Buffer> = []
  for (let start = 0, end; (end = bytes.indexOf(0x0a, start)) >= 0; start = end + 1) {
    lines.push(bytes.subarray(start, end + 1))
  }
  return lines
}
