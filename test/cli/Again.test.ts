import { assert, describe, it } from "@effect/vitest"
import * as Again from "../../src/cli/Again.ts"

describe("the same command again", () => {
  it("can be typed", () => {
    assert.strictEqual(
      Again.words(["run", "--out", "my runs/it's", "--set", "supervised.rounds=2"]),
      `charter run --out 'my runs/it'\\''s' --set supervised.rounds=2`
    )
    const judge = "openai:Qwen/Qwen3:8B@http://localhost:8000/v1"
    assert.strictEqual(Again.words(["run", "--judge", judge]), `charter run --judge ${judge}`)
  })

  it("has no key that stood in the query of an address", () => {
    const judge = "openai:m@https://host/v1?api_key=secret&b=c"
    const said = "'openai:m@https://host/v1?…'"
    assert.strictEqual(Again.words(["run", "--judge", judge, "--sandbox"]), `charter run --judge ${said} --sandbox`)
    assert.notInclude(Again.words(["run", `--judge=${judge}`]), "secret")
    assert.notInclude(Again.words(["run", judge.replace("https", "HTTPS")]), "secret")
    assert.strictEqual(Again.words(["score", "what?now"]), "charter score 'what?now'")
  })
})
