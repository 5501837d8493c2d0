/**
 * Files that are never seen half-written.
 */
import * as fs from "node:fs/promises"

/** Node writes at most 2 GiB in one call. */
const maxWriteBytes = 1 << 30

/**
 * Writes the parts, one after the other, to `file` + `.tmp`, waits until the disk has them and renames it to `file`.
 *
 * A reader therefore sees the old file or the whole new one, also after a crash. Rejects with Node's own error, and
 * then leaves `file` as it was and nothing beside it.
 */
export const write = async (file: string, parts: Iterable<Uint8Array>): Promise<void> => {
  const temporary = `${file}.tmp`
  const handle = await fs.open(temporary, "w")
  try {
    try {
      for (const part of parts) {
        let done = 0
        while (done < part.length) {
          done += (await handle.write(part, done, Math.min(part.length - done, maxWriteBytes))).bytesWritten
        }
      }
      await handle.sync()
    } finally {
      await handle.close()
    }
    await fs.rename(temporary, file)
  } catch (error) {
    await fs.rm(temporary, { force: true })
    throw error
  }
}

/** Writes a value as indented JSON, as Hugging Face's own files are written. */
export const writeJson = (file: string, value: unknown): Promise<void> =>
  write(file, [new TextEncoder().encode(`${JSON.stringify(value, null, 2)}\n`)])
