import { assert, describe, it } from "@effect/vitest"
import { count } from "../../src/cli/Count.ts"

describe("Count", () => {
  it("has one thing in the singular and none or several in the plural", () => {
    assert.deepStrictEqual(
      [0, 1, 2, 1000].map((n) => count(n, "step")),
      ["0 steps", "1 step", "2 steps", "1000 steps"]
    )
  })
})
