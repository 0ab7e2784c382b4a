// Connects with the official driver, writes, reads, watches and resumes. It is run by
// TestNodeDriver with the connection string as its only argument, and exits with 0 only
// when everything was as it should be.
"use strict";
const assert = require("node:assert");
const { MongoClient } = require("mongodb");

async function main(uri) {
  const client = new MongoClient(uri, { serverSelectionTimeoutMS: 5000 });
  await client.connect();
  try {
    const coll = client.db("node").collection("calls");
    const stream = coll.watch([{ $match: { operationType: { $in: ["insert", "update"] } } }], { maxAwaitTimeMS: 200 });
    assert.strictEqual(await stream.tryNext(), null);
    const opened = stream.resumeToken;
    assert.ok(opened._data.startsWith("82"));

    const { insertedId } = await coll.insertOne({ session_id: "s1", at: new Date(0), log: [1] });
    await coll.insertMany([{ _id: "a", n: 1 }, { _id: "b", n: 2 }]);
    await coll.updateOne({ session_id: "s1" }, { $set: { "o.p": 1 }, $push: { log: 2 } });
    const kinds = [];
    for (let i = 0; i < 4; i++) kinds.push((await stream.next()).operationType);
    assert.deepStrictEqual(kinds, ["insert", "insert", "insert", "update"]);
    await stream.close();

    const again = coll.watch([], { resumeAfter: opened });
    assert.strictEqual(String((await again.next()).documentKey._id), String(insertedId));
    await again.close();

    const found = await coll.find({ n: { $gte: 1 } }).sort({ n: -1 }).project({ n: 1 }).toArray();
    assert.deepStrictEqual(found, [{ _id: "b", n: 2 }, { _id: "a", n: 1 }]);
    assert.strictEqual(await coll.countDocuments(), 3);
    assert.strictEqual((await coll.findOneAndUpdate({ _id: "a" }, { $inc: { n: 5 } }, { returnDocument: "after" })).n, 6);
    assert.strictEqual((await coll.bulkWrite([{ deleteOne: { filter: { _id: "a" } } }, { updateOne: { filter: { _id: "c" }, update: { $set: { n: 3 } }, upsert: true } }])).upsertedCount, 1);
    await assert.rejects(coll.insertOne({ _id: "b" }), { code: 11000 });
    await assert.rejects(coll.aggregate([{ $lookup: {} }]).toArray(), { code: 40324 });
    await coll.createIndex({ session_id: 1 }, { unique: true, sparse: true });
    assert.deepStrictEqual((await coll.indexes()).map((ix) => ix.name), ["_id_", "session_id_1"]);

    const session = client.startSession();
    await session.withTransaction(() => coll.insertOne({ _id: "t" }, { session }));
    await session.endSession();
    assert.ok(await coll.findOne({ _id: "t" }));

    const cursor = coll.find({}, { batchSize: 1 });
    let n = 0;
    for await (const doc of cursor) n += doc._id ? 1 : 0;
    assert.strictEqual(n, 4);
    await client.db("node").dropDatabase();
  } finally {
    await client.close();
  }
}

main(process.argv[2]).then(
  () => process.exit(0),
  (err) => {
    console.error(err);
    process.exit(1);
  },
);
