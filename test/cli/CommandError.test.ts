import { assert, describe, it } from "@effect/vitest"
import { RowsRejected } from "../../src/cli/CommandError.ts"

const rejected = (rows: number, first: string) =>
  new RowsRejected({ rejected: rows, rows, rejects: "rows.rejected.jsonl", source: "rows.jsonl", first }).message

describe("a command none of whose rows can be used", () => {
  it("says why in one sentence, whether the reason is a part of one or a whole", () => {
    for (const first of ["line 1: it has no tokens", "line 1: It has no tokens."]) {
      const reason = first.replace(/\.$/, "")
      assert.strictEqual(rejected(1, first), `No row of rows.jsonl can be used: ${reason}.`)
      const many = `No row of rows.jsonl can be used: ${reason}; the reasons of all 2 are in rows.rejected.jsonl.`
      assert.strictEqual(rejected(2, first), many)
    }
  })
})
