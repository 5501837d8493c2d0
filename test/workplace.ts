import { afterAll } from "@effect/vitest"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

const made: Array<string> = []
afterAll(() => made.forEach((dir) => rmSync(dir, { recursive: true, force: true })))

/** A folder that is there until the tests of the file are done. */
export const workplace = (): string => {
  const dir = mkdtempSync(join(tmpdir(), "charter-"))
  made.push(dir)
  return dir
}
