"""Protocols are data: what the hash covers, what it does not, and what reading them costs."""

import copy
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.config_data import canonical_json, hash_config
from bench.errors import BenchError
from bench.protocols import (
    CONFIGS,
    PROSE,
    Protocol,
    all_protocols,
    builtin_ids,
    load_protocol,
    read_protocol,
)
from bench.tracks import find_track

IDS = builtin_ids()
FROM_OTHERS = re.compile(r"fair_.*|paper_(voc|city).*_p\d+")
WRITTEN_OUT = [name for name in IDS if not FROM_OTHERS.fullmatch(name)]
"""Protocols that are not another one with a few other values."""
PUBLISHED = {
    ("mini_voc_det_frcnn_fpn", 3): "4be58ac8fdc99d7e7b9aa437e420938d144ee17392cb75c1fdf27c08f3cdb382",
    ("mini_voc_seg_fcn", 3): "b9cbd1a4f4af202879a6f83fa56a3ce6d6d9893a0d5e19d8b9ab377bae17b922",
    ("mini_coco_mrcnn_fpn", 3): "16036db68ed1f00d149c1ddf80d7f74f1415fb94c543dcf37fe7c17fba0c4999",
    ("mini_city_seg_fcn", 3): "e43af339a6ccaf7678c1bb0a30e5ad8d9327b1787fa940750410c8f76b6f28e6",
    ("mini_city_inst_mrcnn_fpn", 2): "c32d412644a5a123206a1e5359634083d26ffac22a134c18270c978c29f33ebe",
    ("mini_voc_maskdistill", 1): "b9280d4e80dca514d6ab251a2eed680aa5aa45af2828dc9af36354ff3b357a0b",
    ("mini_voc_maskdistill_mrcnn", 1): "30de3388aa2aa6518b596a9e4d66ef8fa712d42bfdee419e6d26bcd6ac851c3d",
    ("mini_coco_maskdistill", 2): "6a7347098bd93ec8d85d86cebe92449c1d9c8cbeac509d7587b8b5c5af76e8fe",
    ("mini_in1k_finetune_p1", 1): "1a138ed65d2721fcff501ff82c9d3601a0588931fca61186b6eea6b0c3031602",
    ("mini_in1k_finetune_p10", 1): "39e273ab922ec29eb2f198a2dd758fefe35c75322dc767c10fec14d44160f67e",
    ("frozen_voc_seg_linear", 1): "f6c44363934fffa9bb8abfdfd6b4d9b86620e07b8a268aca72033086605b7674",
    ("frozen_voc_seg_knn", 1): "545cab21adb24fb95eb174361667ccdcec25bcbf1ae31d84ed16d71bf73e8cbc",
    ("frozen_city_seg_linear", 1): "fb8903d633a5eb73c21ff0d3d2727303501cb0d4a2b5d79aa7b60d8089769335",
    ("frozen_city_seg_knn", 1): "a158a011d260f55b2e5a8b1a001fb15ac3b5791d0351729dfbcee66fcd88066f",
    ("frozen_voc_seg_linear_p1", 1): "76dbb88cd1c112dd6df2b3d139f97083e1866dc608750150712ed62ddf556339",
    ("frozen_voc_seg_linear_p5", 1): "1711dcc31f8574071977040d2abdbd3f5889fbe5511a3b337667f551422d3222",
    ("frozen_voc_seg_linear_p10", 1): "2a3504c5d5e0a750a9b727096db51ec61e6831ce2fdf9e2c5219edf7ebcbd0fb",
    ("frozen_voc_seg_linear_p25", 1): "c7d5235e264cfe072e87c747471c08df37aa47c1cdc266d12059f2cce6c3c125",
    ("frozen_city_seg_linear_p1", 1): "992cf2cc29b099a9eb29e373529a8fba43f211fd1b22165652f43d9e42134e89",
    ("frozen_city_seg_linear_p5", 1): "3b832cafd3b7fac44d773e1e01aa6f8b5daaeb4d709e93339483eb98f1715fbb",
    ("frozen_city_seg_linear_p10", 1): "f2b342bcec949b4d86ed78e7f9f7bfa3a6a44c15ed536a2638ed4b3525814ef0",
    ("frozen_city_seg_linear_p25", 1): "3a4beda228ecfce689d8b9de3dc7e16629bc0e86583703dd921894b8b980599d",
    ("frozen_voc_seg_clusters", 1): "6bd6d64c80fbb43eb1bb1aa934785059904006db64c4c60ca55b8722b3f92680",
    ("frozen_voc_seg_clusters500", 1): "1d2b74ced555fae80a093a13aa56b59c94aad19889e421b4d0241a71a5eada1e",
    ("frozen_city_seg_clusters", 1): "02669cb350123f02e7672352731727f403538b3d6e839e6ac94c652034e00614",
    ("frozen_city_seg_clusters500", 1): "7b1729292fc9648384ad4a734e88f4a3d056b0aa32e26ffa8838de6d8c0e8c11",
    ("frozen_voc_seg_retrieval", 1): "aca597f8075bca8c7dab7e889a6518ac9e1e35142c4963cd73e574c57bf92961",
    ("frozen_voc_seg_retrieval_published", 1): "f623952ec880736d741238d95731dd6efeffebe2d62631b471e58abc0e208fb2",
    ("frozen_city_seg_retrieval", 1): "eb7f58bac56d011b8b40d9cf45d8fe74c95996433a5b24aee7e5fa7bc0e182ed",
    ("frozen_city_seg_retrieval_published", 1): "3c43b2376c4b3907baa76c7c58fcd02711a7cf53a4a2232c3899e843f3e10a59",
    ("frozen_voc_rank", 1): "37f7d69cb45a7c2e1fc5a51dfd3b6f63f1a4b89b89b04f8d5545659990a9f783",
    ("frozen_voc_lidar", 1): "b846ea64fef07d1ad1a4f94021df32c6ed6d0283f67b2c96e70cdd850423aef0",
    ("frozen_city_rank", 1): "cc623fe86e13ebe9daee4fbe6e73c8dd41a6c7499346f9522e5516cb22f7ebe1",
    ("frozen_city_lidar", 1): "8887fb7c7f9af6481a6fe212cfea7bf3a10a214f8bd5a8339bc99d14b819bca0",
    ("frozen_davis17_crw", 1): "febfc91095951fe2780bad4fa5db8ddff5467b048c0849d97b2aabd5a5a9e061",
    ("frozen_davis17_sfc", 1): "fc96215bf4ef45d3fe9ddab1fd995c18076d838420a434112d0ff24936bed76d",
    ("frozen_davis17_dino", 1): "c0e9456ec115906b8a68705ea75b11c24a526b3de19ee93ddac5449205bf6d10",
    ("frozen_davis16_crw", 1): "da65e649c73a5e1cb740f600eb727692cf8a8f92f67e02ffc7dda652c98b835e",
    ("frozen_davis16_sfc", 1): "b33d98e1e10d478bab81c567eb6aefa7a71c57ea164f16b9cf2e65b1caf7cd11",
    ("frozen_davis16_dino", 1): "3ef3e3ebc35c24a3515fab53ee8b274ce3d3f1717372cfea19974ac88f6797ff",
    ("frozen_vip_crw", 1): "f792988988bdb8627bcf48b4993bd74dbeebb0786e2cd79f1e401eacb2d48e71",
    ("frozen_jhmdb_crw", 1): "b17ef8f61e838cb94f7b7f58526d131b8604778c0e1d1b711a7167a1498dce6e",
    ("frozen_in1k_knn", 1): "e5fae9845fb3a845540daa1bd58ad910dbe3824c24df183225e57aeb6a46fd90",
    ("frozen_in1k_linear", 1): "6f423c10743f14f888af48749257aa38ea755355994372c9a5418d37dabceaf0",
    ("frozen_in1k_linear_p1", 1): "92826e3ed1e17be501b3c5e6a6c398cd5f9edb0eca10d003b11315dd7365bede",
    ("frozen_in1k_linear_p10", 1): "f6b5ade8de91c71b30b6688cbd1d5699468bfd4d29b68e50d42544ecda8d1878",
    ("frozen_in1k_linear_tail", 1): "68f8d54bae12238e067de9e90b17664eaa6c64ebeff518693dda9c5be1c5600a",
    ("frozen_in1pct_linear", 1): "d4a30f3099a4cc2325f5a9caa85244dffe3f8da3692127d58c8df64f9e055e45",
    ("frozen_in10pct_linear", 1): "68980f738776281d0e24e856688b30e97674bcf173b83565b53eac2211ae8d63",
    ("frozen_inlt_linear", 1): "2b3732c59c286b32c1cdb6442fa2c70560a07d5484709ba487346e4d9e58c8b6",
    ("frozen_voc07_svm", 1): "ea5fb69521218900dd167b284477a56c5f21fcd5dfd29e1fdb7fe99fe8a02cd5",
    ("frozen_voc07_svm_virtex", 1): "23c1f16b8aa32a626d0aa841016f478d605e6ca332a5805be794b94d54724a6e",
    ("frozen_voc07_low_shot", 1): "d30cebdc993c415aac21587086f427af5dc200970ca084e205f0b988c297b0a9",
    ("frozen_voc07_low_shot_published", 1): "47407c19acd5715f29b6bb76f2bb55c28fe1b0e2101549ccfe593f98d95b14d8",
    ("frozen_voc12_svm", 1): "d3d62b316adb852a5a2331d5510e8258612baf010c7e58bfe9bf45e6fe41d9cf",
    ("frozen_voc12_low_shot", 1): "366b1b5590ad62888dd6930fac2b3d50ba7894562c65a16c117274bfdf1f9209",
    ("frozen_stuff27_clusters", 1): "c92eddb61e54f96c75b85196a2bdf5e39f5121f122c57a7d271eaa146e079e4f",
    ("frozen_stuff27_linear", 1): "189be76a8011570a6a326279e79cbca4be758fbc08e60cdb1dcc837fcb3ae962",
    ("frozen_cub_foreground", 1): "8863d34280a4c0c1ffedf7c1de2f701b79f11d21481b5c0439ccfa17c6b28344",
    ("frozen_ade_seg_linear", 1): "113e224bde246869d535b4e2f9ebf9212a57db0466ef87cb8a750e02579b71ba",
    ("frozen_ade_seg_knn", 1): "f51c6f2e9c0cf5e3e9de0e4d620fd03258bd884f22de8b6d13cbb1a3ef3e3b22",
    ("frozen_voc_det_frcnn_fpn", 2): "6e497529c624f4e2d95a65817061f96ab9d81cafa8da9cbe60b9457af7014407",
    ("frozen_voc_seg_fpn", 1): "a10e3c37cc99914336c06029cf66f9a02755dcdbb5495a3b9686af2b1828cf7f",
    ("frozen_city_seg_fpn", 1): "a3022202f0678e285a80f33843a45cb749c61531eb04fe02a2a9ba3516066c78",
    ("frozen_voc_seg_corrupted", 1): "156caa813868dc9120696583e7fe02337f7790e6ecf520ed6ed460b04c518c9f",
    ("frozen_city_seg_corrupted", 1): "5c21477fe516ed7a397a5c84f3fb6074b7f2af4ed209e59f80c0214aac19fa66",
    ("frozen_voc_seg_head", 1): "0cd3a1f23fb2ce750b30f842f99669da92b5995db070f7554dcb42085c30eb15",
    ("frozen_city_seg_head", 1): "3b8de243c540d5e1850e32302c4e994405530e10d2379c11a0c4137c77521bc3",
    ("frozen_voc_foreground", 1): "4ec3eb4ffa79198dbc9e09fbe59ceb6e0a2be60baf1d50d7ec8dab91b56c4ed3",
    ("frozen_voc_segments", 1): "0843be2739a55fc367767b200968de636b00eeb3fca96cd9517ea73bcc2ca7b7",
    ("paper_voc0712_det_c4_24k", 1): "d072ca4a5d4106e176f3c33d80d3b8a4a426eba8d95228a78765da031bb1b8a8",
    ("paper_voc12aug_seg_fcn_d8_20k", 1): "1935a7ed6747117d9a2e654dc93e3341655e002ac3f0064e4b349a8c745308ea",
    ("paper_city_seg_fcn_d8_40k", 1): "da306a456841cb9d70bef3e7ffa2bb8d9e07cf240938c54b1fe04a45764798c3",
    ("paper_coco_mrcnn_fpn_1x_b", 1): "0fb09896b58590191dfb21fc905213676f2b92ba2a9c1eb7f8e13c390c65e23b",
    ("paper_coco_mrcnn_fpn_1x_a", 1): "3bd08aec57178f8b2135d403b05922999fa29a502212d9dfaa2585d98a8a627c",
    ("paper_coco_mrcnn_fpn_2x_a", 1): "e1218b24042725f3252cd3b3eb2369b2f78cab1812be0f138fd5cf0d6169cb01",
    ("paper_coco_mrcnn_fpn_2x_b", 1): "b45e26219df8d8f675c845b7b7701c63dd52124c6a76eef1f12b54129bcf3993",
    ("paper_coco_mrcnn_c4_1x", 1): "a09a9902251f1244723f6e13e0e9e5309c573ecf50541839d9b7b4de98905fb8",
    ("paper_coco_mrcnn_c4_2x", 1): "8d6456dcca9514185470e67b7abbfd1a91d5295b036ca4f78e5810e043bc1aba",
    ("paper_coco_fcos_1x", 1): "3caeef517938ddb0268dd876fa4152a52bc789ad0a43d6739e0874773134d024",
    ("paper_coco_retinanet_1x", 1): "63d967c2c88b1590cfd1fadaf7572056f1456e9b7a61d33fcf6ac23c4afe81ab",
    ("paper_coco_retinanet_2x", 1): "99347d2f7f537b42686be6b2dcecbbe9bbc1eb8961cadd095d5adb04d755e94b",
    ("paper_coco_mrcnn_c4_12k", 1): "b34f3cd54598cd798ff7c643f413d96be9d3be2e06017d932d2746e1cf3a1d16",
    ("paper_coco_mrcnn_fpn_12k_a", 1): "bf9ee7ed51327678370464cb169f797d491aa8767f1fbd5816fdb639c2e055a4",
    ("paper_coco_retinanet_12k", 1): "0439eb529f27af52fd4ce4aa0cec60ca2317788448c9f4744b0611afc4f966d8",
    ("paper_lvis_mrcnn_fpn_2x", 1): "482ad5cdd0c9ab0d1809086e412dae5d83aa499e671e4c0427ffb676c741cf17",
    ("paper_coco_frcnn_fpn_p1", 1): "86c218b2d74f75c91ff5945c7e319317285cf5d44a6f58916c2bb260f336bca2",
    ("paper_coco_frcnn_fpn_p5", 1): "370f04b449aa091c8fb9c02474c62214781ab99e815e01240d364c34ca49c9a8",
    ("paper_coco_frcnn_fpn_p10", 1): "2df6ba15c312260f1c88b35cc0ac321064236b3b2bd861f26e405164d84909be",
    ("paper_voc0712_det_fpn_p1", 1): "110cc00c02653cad03f6b52df0e4680b8a12487a7f843a86a2aed78d21c12cf3",
    ("paper_voc0712_det_fpn_p5", 1): "45e8266eada13685b4e713d5032f24dd6086e844989b5ec09eb4418fb3f9a22b",
    ("paper_voc0712_det_fpn_p10", 1): "c5095000c2bf9a7b13e1dd093268260f0c8a3154c4527d1967ab72c8825f79cc",
    ("paper_voc0712_det_fpn_p25", 1): "a567fd7eefb04267bc1b73646da27c2cbc7d265175216bc26b8bb5886b76ab9c",
    ("paper_voc0712_det_fpn_p50", 1): "cfb6cc2ca85377fcdaf7078c38a1c9dd4f446b708dea4f01191f1d2ef1fe647d",
    ("paper_voc12aug_seg_fcn_d8_p1", 1): "97014e28b3007791ce5e59bd35765773c864a71e67a8461894047de084a2b1a1",
    ("paper_voc12aug_seg_fcn_d8_p5", 1): "0cc073fb83286ed166979f55b47510a561c302c4ad3046a8547f155b0720ef95",
    ("paper_voc12aug_seg_fcn_d8_p10", 1): "b97c46c3aeeb983c558298867700b0f53b4d9e8f58736e4fc370d244de5d02ea",
    ("paper_voc12aug_seg_fcn_d8_p25", 1): "c6ac0d0e4d9ef31fea224cb209d784a2d53a719250cd8f83b0179be63d5b51fd",
    ("paper_voc12aug_seg_fcn_d8_p50", 1): "34d7ddc262a2da9a5b346af63c6fa7eb5c1cdf08dd6323638c4d0d24871c83b2",
    ("paper_city_seg_fcn_d8_p1", 1): "10279ceaa469cbe6d1975d430f82b58237eaeca40749a04d5412e05b4dd94954",
    ("paper_city_seg_fcn_d8_p5", 1): "3446413e2e8728c4e8cf2b7877afa365d333577e9507341b7b2fc489d726ca39",
    ("paper_city_seg_fcn_d8_p10", 1): "b23f2ac3bc283e7fbe0e19abdc22ac0597395fc9d6954f758c177effe5d4e2d3",
    ("paper_city_seg_fcn_d8_p25", 1): "db9045adc9f4ca55a7494107635d841cf740ddd4be81be0d1350d9c814858a64",
    ("paper_city_seg_fcn_d8_p50", 1): "dafc6d7a81f3d1e0ab7a583c0a6850ed546dac275ea18bff1a658ac2ebadf52d",
    ("paper_voc12aug_seg_fcn_moco_30k", 1): "f84f14a48b54dd3a31b836ed24f210cff07104f65ffa8ff68c0b666ecf6db5cb",
    ("paper_city_seg_fcn_moco_90k", 1): "393368ce70df4b7dba6364808dd48afa822487fc1853506ba2cac21bf11fbb62",
    ("paper_voc12aug_seg_fcn_r2o_30k", 1): "895243021c93a7fd05f58b198a56f5d750e13e8236eea08e2b3d70f68e4de612",
    ("paper_city_seg_fcn_r2o_160e", 1): "0152ae548b0b69da9093ba7604c9fcbb71e7d83a4b83228b05c5170119e12c18",
    ("paper_coco_mrcnn_fpn_r2o_24k", 1): "0c002def89b6c47c8ffa55721c33c2b4f33ef13975f2d67c3cc379cc7514b9da",
    ("paper_voc12aug_seg_fcn_multicrop_45e", 1): "62ef5dc8476f1ef9e3a5478b7628fd3ff9c3246bd7e1457f31577e32da3ae93e",
    ("paper_ade20k_fcn_d8_80k", 1): "3d893c711194966a3fc4ce178ae1ea2f58ffeae5882961c6b3cfad3e7d1f3d73",
    ("paper_voc0712_det_fpn_18k", 1): "8acd01d7d8dfd8afcf2eb5da9bb0f7b098a16f2ea57b813a713dd9a9c7f5a567",
    ("paper_city_inst_mrcnn_fpn_24k", 2): "82bf1fef01281a5c6576d985b4adc62364a4df1bf9f856c25a771d93cdae687b",
    ("paper_in1k_linear_moco", 1): "1ba6b69fb548e1339acd2a30f4fb62d72190237c2d0e66eb4a85669c522577e6",
    ("paper_in1k_linear_swav", 1): "14b3777a27933b1ad1d08fd010e700d7b21a25e6ead9ec86fe5ca36d180725f4",
    ("paper_in1k_linear_byol", 1): "badd7bfe287828b5b2fcbee3c035fac0471b778e8ffdb1da98db27fed85331ea",
    ("paper_in1pct_finetune_swav", 1): "bc9552947a96a832c9dd5067ca63fdbd7e97f0db0637c7b2aa406ebe65f6eda7",
    ("paper_in10pct_finetune_swav", 1): "6caf785ad6baf276bf49ce2184a72bf2f33afe25b47d2fa0be74a4a928aa0436",
    ("paper_in1pct_finetune_openselfsup", 1): "b360e1847cd5a408ec1d439c6001d8f4b108de2b2aa1e2554fd60083fe9c09c1",
    ("paper_in10pct_finetune_openselfsup", 1): "874085f5fe7814dba8da65bf6193a3b4f65721a4aa7c697015b242c5fbf9166c",
    ("fair_voc0712_det_c4_24k", 1): "0cfea8e763a1290d545a9f23343043a6e79c47d2c323e834b376d0d91f6a014f",
    ("fair_coco_mrcnn_fpn_1x_b", 1): "16c24e26d1202d78a830d9c255d55562d3570f07f25c89a3c87c7387ba0edfd2",
    ("fair_voc12aug_seg_fcn_d8_20k", 1): "686c6aac1c80f35dcd587d3fe9a53d3768f6e7370fcf66d2cdfc937fe0e23567",
    ("fair_city_seg_fcn_d8_40k", 1): "1b9affc7eefd6421cb6b8aa9fc7bcc8a6c59250e0b1d483a846cf05d1fa7b5a4",
    ("fair_mini_voc_det_frcnn_fpn", 2): "67f8d8539b131f748c2b943c302c8de68ada9636518880c43d00a08c3f94af52",
    ("fair_mini_voc_seg_fcn", 2): "87dda3ab7071d5e874be777e874370484e0041e7e83e244583ee6d575b07e8f9",
    ("fair_mini_coco_mrcnn_fpn", 2): "e753cca016932ee894021c1b7dfd496efc39f78599e859ece90dc9e1162fbaf4",
    ("fair_mini_city_seg_fcn", 2): "d7b60bdd00abc8f35948ac3daba34cda8de33f797417c7c952e49cfb8db4afec",
    ("custom_seg_linear", 1): "f77b64dab842903af28a0be71618ece2eea56bfcbe4033b9606f05616b898a9b",
    ("custom_seg_knn", 1): "8648cbabd8581f15f5521b90868a743286df71bb5d77c3b8487c2a224d851742",
    ("custom_seg_fcn", 2): "902058c162d48330bd75a0d11b3819f4020b370e81274cfece0181e19371cb95",
    ("custom_det_frcnn_fpn", 2): "7b3115cd073f7ce4618d8cb53d528414693c1f76af55046bd8bda9d562674e46",
    ("custom_inst_mrcnn_fpn", 2): "095fbc131f67380a49eb891112b4db96366e0376565230a3b6b0b53e54bca8ed",
    ("custom_seg_fcn_d8_20k", 1): "94f10d426e2e11ebec3624fb810de713f9687b726708817a180f4d0eb383e79f",
    ("custom_det_frcnn_fpn_24k", 1): "3ecc8cd03b518896671fa3f3a08409d8c71baac28571cc8b63a78c76bbfe5ea5",
    ("custom_inst_mrcnn_fpn_24k", 1): "0fb439e4b853b30d8801a2fc75b4daab0b07f7f1148650a224ea6536db6b8b09",
    ("heads_voc12aug_seg_aspp_40k", 1): "2b8af3bf9756eba144e8feaa4445b7b9be5a4d920d0c80b3847da6f5554a4c74",
    ("heads_voc12aug_seg_aspp_40k_random", 1): "1fb5537f95e4e98613fd2d1c5b2a2b988218a8ed60d1a227818d716467269217",
    ("heads_mini_voc_seg_aspp", 1): "75256e7c4975af29ae81d9ece17a610cc67e45298baa9b66e7b9025a68d59d78",
    ("heads_mini_voc_seg_aspp_random", 1): "264db5b6e31ce54b9949abf646cc05506271ac4104bee5b042e5ea2ee04f1ad1",
}
"""Results by these hashes exist. Another hash is another protocol: it needs a new version, and a new line here."""


@pytest.fixture(params=IDS)
def protocol(request: pytest.FixtureRequest) -> Protocol:
    return load_protocol(request.param)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every value of nested data that is not a container, and every empty container."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    items = list(items)
    if not items:
        yield path, value
    for key, item in items:
        yield from leaves(item, (*path, key))


def replaced(config: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """A copy of `config` with another value at `path`."""

    def rebuild(node: Any, rest: tuple[Any, ...]) -> Any:
        if not rest:
            return value
        if isinstance(node, dict):
            return {**node, rest[0]: rebuild(node[rest[0]], rest[1:])}
        changed = list(node)
        changed[rest[0]] = rebuild(node[rest[0]], rest[1:])
        return type(node)(changed)

    return rebuild(config, path)


def other(value: Any) -> Any:
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    return f"{value}x"


def test_every_protocol_of_every_track_loads_in_order() -> None:
    assert [protocol.id for protocol in all_protocols()] == IDS
    assert len({protocol.sha256 for protocol in all_protocols()}) == len(IDS)


def test_a_published_protocol_keeps_its_hash() -> None:
    """Also when a shared part of several configs changes."""
    assert {(p.id, p.version): p.sha256 for p in all_protocols()} == PUBLISHED


def test_no_two_places_share_a_container(protocol: Protocol) -> None:
    """Else a test or a tool that edits one part of a config would change another."""
    seen: set[int] = set()
    stack: list[Any] = [dict(protocol.config)]
    while stack:
        value = stack.pop()
        if isinstance(value, (dict, list)):
            assert id(value) not in seen
            seen.add(id(value))
        if isinstance(value, (dict, list, tuple)):
            stack.extend(value.values() if isinstance(value, dict) else value)


def test_reference_repeats_the_header(protocol: Protocol) -> None:
    header = {key: value for key, value in protocol.config["protocol"].items() if key != "plan"}
    assert protocol.reference().model_dump() == header | {"sha256": protocol.sha256}


def test_a_reader_finds_purpose_cost_and_metric(protocol: Protocol) -> None:
    assert protocol.summary.endswith(".")
    assert all(f"\n{word}: " in protocol.docstring for word in ("Purpose", "Cost", "Metric"))
    text = protocol.config_file.read_text()
    assert "_base_" not in text
    assert text.count("\n") <= 100  # a page


@pytest.mark.parametrize("protocol", WRITTEN_OUT, indirect=True)
def test_any_value_changes_the_hash(protocol: Protocol) -> None:
    config = dict(protocol.config)
    hashed = [(path, value) for path, value in leaves(config) if path not in [("protocol", key) for key in PROSE]]
    assert len(hashed) == len(list(leaves(config))) - len(PROSE)
    hashes = {hash_config(replaced(config, path, other(value))) for path, value in hashed}
    assert len(hashes) == len(hashed)
    assert protocol.sha256 not in hashes


def test_better_words_make_no_other_protocol(protocol: Protocol) -> None:
    for key in PROSE:
        assert hash_config(replaced(dict(protocol.config), ("protocol", key), "Other words")) == protocol.sha256


def test_titles_are_words(protocol: Protocol) -> None:
    assert len(protocol.short_title) <= 30 < len(protocol.title) + 5
    assert "_" not in protocol.title + protocol.short_title


def test_layout_comments_and_order_do_not_change_the_hash(protocol: Protocol, tmp_path: Path) -> None:
    config = dict(protocol.config)
    lines = [f"{name} = {config[name]!r}  # other words" for name in reversed(config)]
    file = tmp_path / "other.py"
    file.write_text('"""Another docstring."""\n\n' + "\n\n\n".join(lines))
    assert read_protocol(file).sha256 == protocol.sha256


@pytest.mark.parametrize("protocol", find_track("mini").protocols, indirect=True)
def test_card_and_run_stand_as_slots(protocol: Protocol) -> None:
    model = protocol.config["model"]
    preprocessor, backbone = model["data_preprocessor"], model["backbone"]
    assert [preprocessor[key] for key in ("mean", "std", "bgr_to_rgb")] == ["card:mean", "card:std", "card:bgr_to_rgb"]
    assert (backbone["depth"], backbone["norm_cfg"]["type"]) == ("card:depth", "run:norm")
    receiver = model["neck"] if "neck" in model else model["decode_head"]
    assert str(receiver["in_channels"]).startswith("card:")
    for loader in ("train_dataloader", "test_dataloader"):
        assert protocol.config[loader]["dataset"]["data_root"] == "run:data_root"


def test_reading_all_protocols_is_light() -> None:
    code = (
        "import sys; from bench.protocols import all_protocols; all_protocols();"
        "print([m for m in ('torch', 'mmengine', 'mmcv', 'mmdet', 'mmseg', 'numpy') if m in sys.modules])"
    )
    root = Path(__file__).parents[2]
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert answer.stdout.strip() == "[]"


def test_every_config_file_belongs_to_a_track() -> None:
    files = {path for path in CONFIGS.glob("*/*.py") if path.name != "__init__.py" and path.parent.name != "parts"}
    assert files == {protocol.config_file for protocol in all_protocols()}


def test_an_unknown_protocol_names_the_nearest() -> None:
    with pytest.raises(BenchError, match=r"did you mean frozen_voc_seg_linear, .*`densebench protocols` lists") as near:
        load_protocol("frozen_voc_seg_liner")
    assert str(near.value).count("frozen_voc_seg_linear") == 3 and len(str(near.value)) < 250
    with pytest.raises(BenchError) as far:
        load_protocol("nix")
    assert str(far.value).startswith("there is no protocol 'nix'; `densebench protocols` lists all")


GOOD = (
    "protocol = dict(id='x', version=1, title='T', short_title='t', track='y', task='detection', dataset='d', "
    "headline='AP', plan=dict("
    "batch_size=1, iterations=1, learning_rate=0.1, final_learning_rate=0.1, norm_weight_decay=0.0))\n"
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("protocol = dict(", "SyntaxError"),
        ("model = dict()", "has no `protocol"),
        (GOOD.replace("version=1, ", "").replace("title='T', ", ""), "lacks version, lacks title"),
        (GOOD.replace("version=1, ", "version=1, dtaset='e', "), "has 'dtaset', which has no meaning"),
        (GOOD.replace("task='detection'", "task='guessing'"), "task"),
        (GOOD.replace("iterations=1, ", ""), "iterations"),
        (GOOD + "rate = float('nan')", "not JSON compliant"),
        (GOOD + "rate = float('inf')", "not JSON compliant"),
        (GOOD + "thing = object()", "config.thing is a object"),
        (GOOD + "import os", "imports os: a protocol may import from transfer_configs only"),
        (GOOD + "import bench.protocols", "imports bench.protocols"),
        (GOOD + "from . import other", r"imports \.: a protocol"),
        (GOOD + "def f():\n    from torch import nn", "imports torch"),
        (GOOD + "from transfer_configs.parts import nothing", "ImportError"),
        (
            GOOD + "from transfer_configs.parts import schedules\nmodel = dict(neck=schedules)",
            r"model\.neck is a module",
        ),
        (GOOD + "def f(): pass\nmodel = dict(neck=[f])", r"model\.neck\[0\] is a function"),
        (GOOD + "class Neck: pass", r"config\.Neck is a type"),
        (GOOD + "f = len", "config.f is a builtin_function"),
        (GOOD + "table = {1: 2}", "not text"),
    ],
)
def test_what_is_no_protocol_is_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "broken.py"
    file.write_text(text)
    with pytest.raises(BenchError, match=message) as error:
        read_protocol(file)
    assert str(file) in str(error.value)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"absent\.py"):
        read_protocol(tmp_path / "absent.py")


def test_private_names_are_not_part_of_the_protocol(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text(GOOD)
    plain = read_protocol(file).sha256
    file.write_text(GOOD + "_helper = object()")
    assert read_protocol(file).sha256 == plain


def test_helpers_are_not_part_of_the_protocol(tmp_path: Path) -> None:
    """Modules and functions, imported or the file's own, compute the values; the values alone count."""
    file = tmp_path / "x.py"
    file.write_text(GOOD + "train_cfg = {'type': 'IterBasedTrainLoop', 'max_iters': 7}\n")
    plain = read_protocol(file)
    file.write_text(
        f"from transfer_configs.parts import schedules\nfrom transfer_configs.parts.schedules import train_loop\n{GOOD}"
        "def own(n): return {'iterations': n}\n"
        "train_cfg = train_loop(own(7))\n"
    )
    computed = read_protocol(file)
    assert computed.sha256 == plain.sha256
    assert computed.config.keys() == plain.config.keys() == {"protocol", "train_cfg"}


def test_numbers_and_text_are_not_confused() -> None:
    values: list[Any] = [1, 1.5, True, "1", None, "None", [1], {"1": 1}]
    assert len({canonical_json({"v": value}) for value in values}) == len(values)
    assert canonical_json({"v": (1, 2)}) == canonical_json({"v": [1, 2]})


def test_the_config_is_not_changed_by_hashing(protocol: Protocol) -> None:
    before = copy.deepcopy(dict(protocol.config))
    hash_config(protocol.config)
    assert dict(protocol.config) == before
