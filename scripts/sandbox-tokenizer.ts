/**
 * Writes the files of `assets/sandbox` that are not weights. Run it after a change of the sandbox world; the weights
 * must then be trained again, because token ids change with the words.
 */
import { mkdirSync, writeFileSync } from "node:fs"
import * as Folder from "../src/sandbox/Folder.ts"

const folder = new URL("../assets/sandbox/", import.meta.url)
mkdirSync(folder, { recursive: true })
for (const [name, text] of Object.entries(Folder.files())) writeFileSync(new URL(name, folder), text)
