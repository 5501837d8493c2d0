/**
 * LineFile: a file of lines that is appended to and may be cut off anywhere when its process is killed.
 *
 * A line is written with its end in one piece, so a kill tears at most the last one, which has no end then and does not
 * count. Lines are bytes, as all of them may be more than the longest text.
 *
 * @internal
 */
import { fstatSync, ftruncateSync, readSync, writeSync } from "node:fs"

/** No character of UTF-8 has the byte of a line's end in it. */
const newline = 0x0a

/** How many bytes are read at once. */
const chunk = 2 ** 16

/** The complete lines of bytes, each with its end and over the same memory. */
export const of = (bytes: Buffer): ReadonlyArray<Buffer> => {
  const lines: Array<Buffer> = []
  for (let start = 0, end; (end = bytes.indexOf(newline, start)) >= 0; start = end + 1) {
    lines.push(bytes.subarray(start, end + 1))
  }
  return lines
}

/**
 * Fills a buffer from a place of an open file on, as far as the file goes: some file systems give fewer bytes at a time
 * than are asked for. Throws what the system says.
 */
export const readUnsafe = (fd: number, bytes: Buffer, start: number): Buffer => {
  let done = 0
  for (let count = 1; count > 0 && done < bytes.length; done += count) {
    count = readSync(fd, bytes, done, bytes.length - done, start + done)
  }
  return bytes.subarray(0, done)
}

/**
 * Where the last complete line of an open file ends. What is behind it may be of any size, as the zeros that a machine
 * can leave which went down. Throws what the system says.
 */
export const endUnsafe = (fd: number): number => {
  const bytes = Buffer.allocUnsafe(chunk)
  for (let end = fstatSync(fd).size; end > 0;) {
    const start = Math.max(0, end - chunk)
    const last = readUnsafe(fd, bytes.subarray(0, end - start), start).lastIndexOf(newline)
    if (last >= 0) return start + last + 1
    end = start
  }
  return 0
}

/** Cuts off what is behind the last complete line of an open file. Throws what the system says. */
export const cutTornUnsafe = (fd: number): void => {
  const end = endUnsafe(fd)
  if (end < fstatSync(fd).size) ftruncateSync(fd, end)
}

/**
 * Appends lines to a file that is open for it, all of them or none, and gives the place where they begin. Throws what
 * the system says.
 */
export const appendUnsafe = (fd: number, lines: Buffer): number => {
  const start = fstatSync(fd).size
  try {
    let done = 0
    while (done < lines.length) done += writeSync(fd, lines, done)
  } catch (error) {
    // A full disk must not leave half a line in front of the next one.
    ftruncateSync(fd, start)
    throw error
  }
  return start
}
